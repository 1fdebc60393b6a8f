import { optimizerOf } from "../optimizer/adamw";
import { optimizerRecord } from "../optimizer/settings";
import type { Trainer } from "../train/trainer";

/** The settings of a trainer that JSON can represent, with the defaults of the optimizer. */
export function settingsOf(trainer: Trainer): Record<string, unknown> {
  const { adapter, model, optimizer, policy: _policy, data, probe: _probe, initial, ...rest } = trainer.options;
  const plain = Object.entries(rest).filter(([, value]) => isJson(value));
  return {
    adapter: { kind: adapter.kind, ...adapter.peftConfig(model.model, trainer.progress.totalSteps) },
    optimizer: optimizerRecord(optimizerOf(optimizer)),
    totalSteps: trainer.progress.totalSteps,
    batchesPerEpoch: data.perEpoch,
    ...(data.shapes && { batchShapes: data.shapes() }),
    ...(initial && { initial: "given" }),
    ...Object.fromEntries(plain),
  };
}

/** Whether a value is the same after it was written as JSON and read again. */
function isJson(value: unknown): boolean {
  if (value === null || ["string", "number", "boolean"].includes(typeof value)) return true;
  if (typeof value !== "object" || ArrayBuffer.isView(value)) return false;
  const isPlain = Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype;
  return isPlain && Object.values(value).every(isJson);
}
