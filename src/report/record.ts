import * as v from "valibot";
import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";
import { readJson } from "../io/json";

/** File of a run's record. */
export const RECORD_FILE = "run.json";
/** File of a run's report, which is drawn from its record. */
export const REPORT_FILE = "report.html";

const COUNT = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const BYTES = v.object({ weight: v.number(), state: v.number(), saved: v.number(), scratch: v.number() });
const METRICS = v.record(v.string(), v.number());
const FACTS = v.record(v.string(), v.unknown());

export const STEP = v.object({
  step: COUNT,
  epoch: v.number(),
  loss: v.number(),
  learningRate: v.number(),
  gradientNorm: v.number(),
  seconds: v.number(),
  examplesPerSecond: v.number(),
  flops: v.number(),
  /** Live GPU bytes by lifetime after the step. */
  bytes: BYTES,
  /** The bytes that the plan predicts for the same moment. */
  planned: BYTES,
  /** Lowest layer through which the backward pass runs; left out where it ends in the head. */
  horizon: v.optional(COUNT),
  frozenTensors: COUNT,
  /** Parameters outside the task's head that still learn; left out by earlier versions. */
  liveParameters: v.optional(COUNT),
  rowsAtOnce: COUNT,
  recomputed: COUNT,
  /** Payload bytes between this device and those that trained with it, measured and predicted; left out for one device. */
  wire: v.optional(v.object({ sent: COUNT, received: COUNT, planned: v.object({ sent: COUNT, received: COUNT }) })),
});

export const FREEZE = v.object({
  /** Optimizer steps before the freeze. */
  step: COUNT,
  tensors: v.array(v.string()),
  /** Transformer layers whose adapter has no live tensor from now on. */
  layers: v.array(COUNT),
  /** Bytes that were returned to the driver. */
  returnedBytes: v.number(),
  /** Returned bytes by lifetime. */
  returned: BYTES,
  /** FLOPs of an optimizer step with the largest batch, before and after the freeze. */
  flops: v.object({ before: v.number(), after: v.number() }),
  /** Live bytes by lifetime after the freeze. */
  bytes: BYTES,
});

/** Heads and neurons that were cut out of the tensors. */
export const COMPACTION = v.object({
  /** Optimizer steps before the compaction. */
  step: COUNT,
  /** Groups of attention heads that the tensors lack from now on, over all layers. */
  heads: COUNT,
  /** The same for neurons. */
  neurons: COUNT,
  /** Bytes that were returned to the driver. */
  returnedBytes: v.number(),
  /** Returned bytes by lifetime. */
  returned: BYTES,
  /** FLOPs of an optimizer step with the largest batch, before and after the compaction. */
  flops: v.object({ before: v.number(), after: v.number() }),
  /** Live bytes by lifetime after the compaction. */
  bytes: BYTES,
  /** Bytes of host memory in which the original weights wait for the end of the run. */
  hostBytes: COUNT,
});

/** A step that was skipped because its loss or gradients were not finite. */
export const SKIPPED = v.object({
  /** Optimizer steps before it. */
  step: COUNT,
  what: v.string(),
  value: v.string(),
});

/** The scores that a policy used after a step: importance by layer, or sensitivity by tensor. */
const SCORES = v.object({
  step: COUNT,
  kind: v.picklist(["importance", "sensitivity"]),
  values: v.record(v.string(), v.number()),
});

export const RUN_RECORD = v.object({
  format: v.literal(1),
  title: v.string(),
  /** When the run ended, in ISO 8601. */
  created: v.string(),
  /** Shell command that runs it again. */
  command: v.optional(v.string()),
  /** Options of that command. */
  options: v.optional(FACTS),
  task: v.optional(v.string()),
  model: v.object({ source: v.string(), family: v.string(), layers: COUNT, task: v.string() }),
  /** Settings of the trainer that JSON can represent. */
  settings: FACTS,
  gpu: v.looseObject({ vendor: v.string(), device: v.string(), description: v.string(), isSoftware: v.boolean() }),
  versions: v.record(v.string(), v.string()),
  /** Kernels that a tuned engine chose, by class of shapes. */
  kernels: v.optional(v.record(v.string(), v.string())),
  metrics: METRICS,
  evaluations: v.array(v.object({ step: COUNT, metrics: METRICS })),
  /** Step of the best evaluation, whose tensors were saved; left out where the run was evaluated only at its end. */
  bestStep: v.optional(COUNT),
  peakBytes: v.number(),
  /** Bytes by lifetime at the peak. */
  peak: BYTES,
  /** Live GPU bytes after the last step. Left out by earlier versions. */
  endBytes: v.optional(v.number()),
  /** Sum over all steps. */
  seconds: v.number(),
  /** Sum over all steps. */
  flops: v.number(),
  stepsPerEpoch: v.number(),
  /** Names of all trained tensors. */
  trained: v.array(v.string()),
  /** Transformer layer of each trained tensor; null below and above the layers. */
  trainedLayers: v.optional(v.array(v.nullable(COUNT))),
  /** Trained parameters outside the task's head: at the start, and those that still learn, averaged over the steps. */
  parameters: v.optional(v.object({ trained: COUNT, averageLive: v.number() })),
  steps: v.array(STEP),
  freezes: v.array(FREEZE),
  /** Left out by earlier versions. */
  compactions: v.optional(v.array(COMPACTION)),
  skipped: v.optional(v.array(SKIPPED)),
  scores: v.array(SCORES),
  /** Settings and results of the policy. */
  policy: FACTS,
  /** Learning rates that were tried before the run, with the metrics of their short runs: none of a run that failed. */
  triedRates: v.optional(v.array(v.object({ learningRate: v.number(), metrics: METRICS }))),
  /** Relative deviation of the start from the loaded model, of adapters that do not start from it exactly. */
  startDeviation: v.optional(v.number()),
  /** Tensors of the head that the checkpoint does not have. */
  initialised: v.optional(v.array(v.string())),
});

/** The record of a run, as plain JSON. Its report is drawn from it. */
export type RunRecord = v.InferOutput<typeof RUN_RECORD>;
export type RunStep = RunRecord["steps"][number];
export type RunCompaction = NonNullable<RunRecord["compactions"]>[number];
export type RunFreeze = RunRecord["freezes"][number];
export type RunTriedRate = NonNullable<RunRecord["triedRates"]>[number];
export type RunScores = RunRecord["scores"][number];

/** Reads `run.json` in a directory. @throws FileFormatError that names what is missing or wrong. */
export async function readRunRecord(directory: DirectoryLike): Promise<RunRecord> {
  return readJson(await directoryAt(directory), RECORD_FILE, RUN_RECORD);
}
