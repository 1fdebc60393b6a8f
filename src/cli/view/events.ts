import * as v from "valibot";
import { FREEZE, SKIPPED, STEP } from "../../report/record";

const COUNT = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const METRICS = v.record(v.string(), v.number());

/** What `safetape train --json` prints: one of these a line, on stdout. */
export const TRAIN_EVENT = v.variant("type", [
  v.object({
    type: v.literal("start"),
    model: v.string(),
    task: v.string(),
    /** Kind of the adapter, and name of the policy. */
    adapter: v.string(),
    policy: v.string(),
    gpu: v.string(),
    layers: COUNT,
    totalSteps: COUNT,
    stepsPerEpoch: v.number(),
  }),
  /** Work beside the steps that takes more than a second: loading, evaluating, writing texts. */
  v.object({
    type: v.literal("progress"),
    what: v.string(),
    seconds: v.number(),
    /** Left out where the end is not known. */
    done: v.optional(v.number()),
    of: v.optional(v.number()),
  }),
  v.object({
    type: v.literal("step"),
    ...STEP.entries,
    totalSteps: COUNT,
    /** Of runs with a prefix cache. */
    prefix: v.optional(v.object({ layer: COUNT, hits: COUNT, parts: COUNT, bytes: COUNT })),
  }),
  v.object({ type: v.literal("freeze"), ...FREEZE.entries }),
  v.object({ type: v.literal("skip"), ...SKIPPED.entries }),
  v.object({ type: v.literal("evaluation"), step: COUNT, metrics: METRICS }),
  v.object({
    type: v.literal("end"),
    metrics: METRICS,
    peakBytes: COUNT,
    /** Of all steps. */
    seconds: v.number(),
    /** Directory of what was saved, and the report in it. */
    out: v.string(),
    report: v.string(),
  }),
]);

export type TrainEvent = v.InferOutput<typeof TRAIN_EVENT>;
export type Emit = (event: TrainEvent) => void;

/** Prints events where they are wanted. */
export const emitter =
  (isWanted: boolean, print: (line: string) => void): Emit =>
  (event) => {
    if (isWanted) print(JSON.stringify(event));
  };
