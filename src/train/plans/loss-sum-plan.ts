import type { Limits } from "../../op/limits";
import { add } from "../../ops/add";
import { plan } from "../../tape/plan";
import type { Plan } from "../../tape/plan";
import { Recorder } from "../../tape/tape";
import type { TrainerOptions } from "../options";
import { LOSS } from "./optimizer-plan";
import type { StepVariants } from "./step-variants";

/** Input of the loss-sum plan: the sum of the losses of a step's earlier runs [1]. */
export const LOSS_SO_FAR = "loss so far";
/** Input of the loss-sum plan: the loss of the run that has just ended [1]. */
export const LOSS_OF_RUN = "loss of a run";

/** Whether a step may consist of several runs, whose losses are summed. */
export function sumsLosses({ accumulate = 1, memory }: TrainerOptions, variants: StepVariants | undefined): boolean {
  return accumulate > 1 || memory?.microBatch !== undefined || variants?.adaptersAct === true;
}

/** The plan that sums losses on the device, so that the update need not wait for the host. Its output is `LOSS`. */
export function lossSumPlan(limits: Limits): Plan {
  const recorder = new Recorder();
  const loss = recorder.apply(add, { a: recorder.input(LOSS_SO_FAR, [1]), b: recorder.input(LOSS_OF_RUN, [1]) }, {});
  return plan(recorder, { outputs: { [LOSS]: loss }, staged: true, limits });
}
