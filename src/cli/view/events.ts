import * as v from "valibot";
import { COMPACTION, FREEZE, RUN_RECORD, SKIPPED, STEP } from "../../report/record";
import type { Print } from "../options";

const COUNT = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const METRICS = v.record(v.string(), v.number());

/** A line that `safetape train --json` prints on stdout. */
export const TRAIN_EVENT = v.variant("type", [
  v.object({
    type: v.literal("start"),
    model: v.string(),
    task: v.string(),
    /** Kind of the adapter. */
    adapter: v.string(),
    /** Name of the policy. */
    policy: v.string(),
    gpu: v.string(),
    layers: COUNT,
    totalSteps: COUNT,
    stepsPerEpoch: v.number(),
    /** Relative deviation of the start from the loaded model; only of adapters that do not start from it exactly. */
    startDeviation: v.optional(v.number()),
  }),
  /** Work between steps that takes more than a second: loading, evaluating, generating texts. */
  v.object({
    type: v.literal("progress"),
    what: v.string(),
    seconds: v.number(),
    /** How much is done, of how much; left out if that is not known. */
    done: v.optional(v.number()),
    of: v.optional(v.number()),
  }),
  v.object({
    type: v.literal("step"),
    ...STEP.entries,
    totalSteps: COUNT,
    /** Only in runs with a prefix cache. */
    prefix: v.optional(v.object({ layer: COUNT, hits: COUNT, parts: COUNT, bytes: COUNT })),
  }),
  v.object({ type: v.literal("freeze"), ...FREEZE.entries }),
  v.object({ type: v.literal("compaction"), ...COMPACTION.entries }),
  v.object({ type: v.literal("skip"), ...SKIPPED.entries }),
  v.object({ type: v.literal("evaluation"), step: COUNT, metrics: METRICS }),
  v.object({
    type: v.literal("end"),
    metrics: METRICS,
    peakBytes: COUNT,
    /** As in run.json. */
    parameters: RUN_RECORD.entries.parameters,
    /** Live GPU bytes after the last step. */
    endBytes: COUNT,
    /** Sum over all steps. */
    seconds: v.number(),
    /** Output directory. */
    out: v.string(),
    /** Path of the report in it. */
    report: v.string(),
  }),
]);

export type TrainEvent = v.InferOutput<typeof TRAIN_EVENT>;
export type Emit = (event: TrainEvent) => void;

/** Prints events as JSON if `isJson`, and ignores them otherwise. */
export const emitter =
  (isJson: boolean, print: Print): Emit =>
  (event) => {
    if (isJson) print(JSON.stringify(event));
  };
