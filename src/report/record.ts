import * as v from "valibot";
import type { Directory } from "../io/directory";
import { readJson } from "../io/json";

/** The files of a run's record and of the page that is drawn from it. */
export const RECORD_FILE = "run.json";
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
  /** Live GPU bytes by lifetime after the step, and what the plan says that they are. */
  bytes: BYTES,
  planned: BYTES,
  /** Lowest transformer layer with a live adapter; left out when all are frozen. */
  horizon: v.optional(COUNT),
  frozenTensors: COUNT,
  rowsAtOnce: COUNT,
  recomputed: COUNT,
});

export const FREEZE = v.object({
  /** Optimizer steps done when it happened. */
  step: COUNT,
  tensors: v.array(v.string()),
  /** Transformer layers whose adapter is wholly frozen by it. */
  layers: v.array(COUNT),
  returnedBytes: v.number(),
  returned: BYTES,
  /** Of an optimizer step with the largest batch. */
  flops: v.object({ before: v.number(), after: v.number() }),
  /** Live bytes after it. */
  bytes: BYTES,
});

/** A step that was passed over, since its loss or gradients were not finite. */
export const SKIPPED = v.object({
  /** Optimizer steps done before it. */
  step: COUNT,
  what: v.string(),
  value: v.string(),
});

/** What a policy looked at after a step: importance by layer, or sensitivity by tensor. */
const SCORES = v.object({
  step: COUNT,
  kind: v.picklist(["importance", "sensitivity"]),
  values: v.record(v.string(), v.number()),
});

export const RUN_RECORD = v.object({
  format: v.literal(1),
  title: v.string(),
  /** When it ended, in ISO 8601. */
  created: v.string(),
  /** What a shell runs to do it again. */
  command: v.optional(v.string()),
  /** Options as the caller gave them. */
  options: v.optional(FACTS),
  task: v.optional(v.string()),
  model: v.object({ source: v.string(), family: v.string(), layers: COUNT, task: v.string() }),
  /** Every setting of the trainer that is data. */
  settings: FACTS,
  gpu: v.looseObject({ vendor: v.string(), device: v.string(), description: v.string(), isSoftware: v.boolean() }),
  versions: v.record(v.string(), v.string()),
  /** Kernels that a tuned engine chose, by shape class. */
  kernels: v.optional(v.record(v.string(), v.string())),
  metrics: METRICS,
  evaluations: v.array(v.object({ step: COUNT, metrics: METRICS })),
  peakBytes: v.number(),
  /** Bytes by lifetime when most were live. */
  peak: BYTES,
  /** Of all steps. */
  seconds: v.number(),
  flops: v.number(),
  stepsPerEpoch: v.number(),
  /** Every tensor that the run trains. */
  trained: v.array(v.string()),
  /** Transformer layer of each of them; null outside the layers. */
  trainedLayers: v.optional(v.array(v.nullable(COUNT))),
  steps: v.array(STEP),
  freezes: v.array(FREEZE),
  skipped: v.optional(v.array(SKIPPED)),
  scores: v.array(SCORES),
  /** Options and findings of the policy. */
  policy: FACTS,
  /** Tensors of the head that the checkpoint did not have. */
  initialised: v.optional(v.array(v.string())),
});

/** All that is known of a run: what its report is drawn from. Plain JSON. */
export type RunRecord = v.InferOutput<typeof RUN_RECORD>;
export type RunStep = RunRecord["steps"][number];
export type RunFreeze = RunRecord["freezes"][number];
export type RunScores = RunRecord["scores"][number];

/** Reads `run.json` of a directory. @throws FileFormatError naming what is missing or wrong. */
export function readRunRecord(directory: Directory): Promise<RunRecord> {
  return readJson(directory, RECORD_FILE, RUN_RECORD);
}
