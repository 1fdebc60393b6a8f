import { basename, dirname } from "node:path";
import * as v from "valibot";
import { LIFETIMES } from "../gpu/ledger";
import { readJson } from "../io/json";
import { createModel, withHead } from "../model/families";
import { openDirectory } from "../node/directory";
import { stepWireBytes } from "../distributed/bytes";
import type { StepWireBytes } from "../distributed/bytes";
import { dpo } from "../preference/dpo";
import { describeChoice, fitMemoryBudget } from "../train/estimate/fit-memory-budget";
import { plan } from "../train/estimate/predict";
import type { Prediction } from "../train/estimate/predict";
import { adapterFrom, dpoFrom, optimizerFrom, PLAN } from "./flags";
import { readOptions, UsageError } from "./options";
import type { Print, RawOptions, Values } from "./options";
import { bareHead, isLabelledByData, whyNotFilled } from "./tasks/tasks";

/** `safetape plan`: predicts what a training step needs, from a config.json alone. */
export async function planCommand(raw: RawOptions, print: Print): Promise<void> {
  const options = readOptions(PLAN, raw);
  const { batch, length, targetLength, packing, memoryBudget, freezeBelow, recompute, weights, activations, json } =
    options;
  const { world, wire: encoding, worldLocalSteps: localSteps } = options;
  const preference = dpoFrom(options);
  const objective = preference && dpo(preference);
  const { task } = options;
  const notPacked = packing && task !== undefined ? whyNotFilled(task) : undefined;
  if (notPacked !== undefined) {
    throw new UsageError(`--packing cannot be used for --task ${task}: ${notPacked}.`, "Leave out one of them.");
  }
  adapterFrom(options); // Throws for options that no model has.
  const stored = await readJson(await openDirectory(dirname(options.config)), basename(options.config), CONFIG);
  const config = await withTaskHead(stored, options);
  const workload = {
    config,
    adapter: adapterFrom(options, { model: createModel(config) }),
    optimizer: optimizerFrom(options),
    loss: objective ?? options.loss,
    // A pair is two rows.
    batch: batch * (objective?.rowsTogether ?? 1),
    ...(length !== undefined && { length }),
    ...(targetLength !== undefined && { targetLength }),
    packing,
  };
  if (memoryBudget !== undefined) {
    const choice = fitMemoryBudget(workload, memoryBudget);
    const { prediction, memory, ...settings } = choice;
    const { peakBytes, bytes } = prediction;
    print(json ? JSON.stringify({ ...settings, ...memory, peakBytes, bytes }) : describeChoice(choice));
    return;
  }
  const request = { ...workload, weights, memory: { recompute, activations } };
  const prediction = plan({ ...request, freezeBelow });
  const { layers } = prediction;
  if (freezeBelow > layers) {
    throw new UsageError(`--freeze-below is ${freezeBelow}.`, `This model has ${layers} layers.`);
  }
  const afterFreezing = Array.from({ length: layers - freezeBelow + 1 }, (_, i) => {
    const below = freezeBelow + i;
    const { peakBytes, bytes, trainableParameters } = i === 0 ? prediction : plan({ ...request, freezeBelow: below });
    const wire =
      world === undefined ? {} : { wire: stepWireBytes(trainableParameters, world, { encoding, localSteps }) };
    return { freezeBelow: below, peakBytes, bytes, ...wire };
  });
  if (json) {
    const { explanation, ...numbers } = prediction;
    print(JSON.stringify({ ...numbers, freezeBelow, horizon: explanation.horizon, afterFreezing }));
  } else printPrediction(prediction, afterFreezing, print);
}

/** The configuration with the head of a task. @throws UsageError for a task whose data decide the labels, which nothing counts. */
async function withTaskHead(
  config: v.InferOutput<typeof CONFIG>,
  { task, labels }: Values<Pick<typeof PLAN, "task" | "labels">>,
): Promise<v.InferOutput<typeof CONFIG>> {
  if (task === undefined) {
    if (labels === undefined) return config;
    throw new UsageError("--labels has no --task.", "Give both, or leave it out: config.json has the labels.");
  }
  const head = await bareHead(task);
  if (!isLabelledByData(task)) {
    if (labels === undefined) return withHead(config, head);
    throw new UsageError(`--labels does not belong to --task ${task}.`, "Leave it out: the task has its own.");
  }
  return withHead(config, { ...head, ...(labels !== undefined && { labels }) });
}

const CONFIG = v.record(v.string(), v.unknown());

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(2).padStart(8)} GB`;

interface FrozenBelow {
  readonly freezeBelow: number;
  readonly peakBytes: number;
  /** Payload bytes of a step of several devices; undefined for one. */
  readonly wire?: StepWireBytes;
}

function printPrediction(prediction: Prediction, afterFreezing: readonly FrozenBelow[], print: Print): void {
  const { peakBytes, bytes, peakAt, parameters, trainableParameters, flops } = prediction;
  print(`${parameters} parameters in the checkpoint; ${trainableParameters} trainable`);
  print(`peak ${gigabytes(peakBytes)}   ${peakBytes} bytes`);
  for (const lifetime of LIFETIMES)
    print(`  ${lifetime.padEnd(8)}${gigabytes(bytes[lifetime])}   ${bytes[lifetime]} bytes`);
  print(`the peak is reached at the ${peakAt}`);
  const recomputed = flops.recompute > 0 ? `, ${flops.recompute.toExponential(3)} recomputed` : "";
  print(
    `FLOPs of a step: ${flops.forward.toExponential(3)} forward${recomputed}, ${flops.backward.toExponential(3)} backward`,
  );
  print("with all adapters below a layer frozen:");
  for (const { freezeBelow, peakBytes: peak, wire } of afterFreezing) {
    const sent = wire
      ? `; a step sends ${Math.round(wire.part)} bytes from each device to the leader, and ${Math.round(wire.result)} back`
      : "";
    print(`  ${String(freezeBelow).padStart(4)} ${gigabytes(peak)}   ${peak} bytes${sent}`);
  }
}
