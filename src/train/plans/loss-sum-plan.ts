import type { Limits } from "../../op/limits";
import { add } from "../../ops/add";
import { plan } from "../../tape/plan";
import type { Plan } from "../../tape/plan";
import { Recorder } from "../../tape/tape";
import { LOSS } from "./optimizer-plan";
import type { TrainerOptions } from "../options";

/** Inputs of the sum: the losses of the runs so far, and that of the run just done. */
export const SO_FAR = "loss so far";
export const OWN = "loss of a run";

/** Whether steps of a run may consist of several runs, whose losses are added up. */
export const sumsLosses = ({
  accumulate = 1,
  microBatch,
}: Pick<TrainerOptions, "accumulate" | "microBatch">): boolean => accumulate > 1 || microBatch !== undefined;

/** Adds a run's loss to those before it, on the device, so that the update need not wait for the host. */
export function lossSumPlan(limits: Limits): Plan {
  const recorder = new Recorder();
  const loss = recorder.apply(add, { a: recorder.input(SO_FAR, [1]), b: recorder.input(OWN, [1]) }, {});
  return plan(recorder, { outputs: { [LOSS]: loss }, staged: true, limits });
}
