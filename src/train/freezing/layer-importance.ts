import type { Adapter } from "../../adapter/adapter";
import { ConfigError } from "../../base/errors";
import { finishCka } from "../../ops/cka";
import { plan } from "../../tape/plan";
import type { FreezingParts } from "./context";
import { batchInputs } from "../plans/inputs";
import { comparisonOutput, traceComparison } from "../plans/comparison-trace";

/** @throws ConfigError for an adapter whose layers have no counterpart in the original model. */
export function checkComparable(adapter: Adapter): void {
  if (adapter.trainsInPlace) {
    throw new ConfigError(
      `${adapter.kind} tuning has no original model left to compare with.`,
      "Use an adapter that leaves the checkpoint as it is, as lora().",
    );
  }
  if (adapter.virtualTokens) {
    throw new ConfigError(
      `${adapter.kind} lengthens every text: its layers have no counterpart to compare with.`,
      "Use an adapter of the layers, as lora().",
    );
  }
}

/**
 * SAFE's importance (eq. 2 and 3) of every layer's adapter: 1 - CKA between the layer's activation with the adapter and
 * that of the original model on the same probe batch, both without dropout; rows are the tokens that are not padding.
 * @throws ConfigError for an adapter that trains the checkpoint in place, since there is no original to compare with.
 */
export async function importance(
  { loaded, adapter, state, executor, probe }: FreezingParts,
  center: boolean,
): Promise<ReadonlyMap<number, number>> {
  checkComparable(adapter);
  const { model, fragileNorms, engine } = loaded;
  const batch = { size: probe.size, length: probe.length };
  const { tape, outputs } = traceComparison({ model, adapter, batch, isTraining: false, fragileNorms }, center);
  const comparison = plan(tape, { outputs, limits: engine.device.limits });
  const inputs = { ...batchInputs(model, probe), probe_mask: probe.attentionMask };
  const sums = await executor.beside([comparison], () => executor.run(comparison, state, inputs));
  return new Map(
    Array.from({ length: model.layers }, (_, layer) => [layer, 1 - finishCka(sums.get(comparisonOutput(layer))!)]),
  );
}
