import type { TensorSpec } from "../../op/declaration";
import type { Limits } from "../../op/limits";
import { scale } from "../../ops/scale";
import type { Optimizer } from "../../optimizer/optimizer";
import { recordNorm, recordUpdate } from "../../optimizer/record-update";
import type { UpdateOptions } from "../../optimizer/record-update";
import type { TensorGroup } from "../../optimizer/settings";
import { plan } from "../../tape/plan";
import type { Plan } from "../../tape/plan";
import { Recorder } from "../../tape/tape";

/** Output of the update plan and the norm plan: the sum of squares of all gradients [1]. */
export const SQUARE_SUM = "square sum";
/** Input and output of the update plan and the norm plan: the loss of the step [1]. */
export const LOSS = "loss";

/**
 * The plan that gives loss and gradient norm of a step ahead of its update, so that whatever reads the gradients in between
 * sees only finite ones.
 */
export function normPlan(
  live: ReadonlyMap<string, TensorSpec>,
  optimizer: Optimizer,
  limits: Limits,
  options: Pick<UpdateOptions, "masked" | "arenas" | "group"> = {},
): Plan {
  const recorder = new Recorder();
  // A plan has no inputs that no op reads: the loss passes through an op that keeps its bits.
  const loss = recorder.apply(scale, { x: recorder.input(LOSS, [1]) }, { factor: 1 });
  const total = recordNorm(recorder, live, optimizer, options);
  return plan(recorder, { outputs: { [SQUARE_SUM]: total, [LOSS]: loss }, effects: true, staged: true, limits });
}

/** The plan of one optimizer step over the live tensors, and their groups by the plan's inputs. */
export function updatePlan(
  live: ReadonlyMap<string, TensorSpec>,
  optimizer: Optimizer,
  limits: Limits,
  options: UpdateOptions = {},
): { readonly update: Plan; readonly groups: ReadonlyMap<string, TensorGroup> } {
  const recorder = new Recorder();
  const loss = recorder.input(LOSS, [1]);
  const { total, groups } = recordUpdate(recorder, live, optimizer, loss, options);
  const outputs = { [SQUARE_SUM]: total, [LOSS]: loss };
  return { update: plan(recorder, { outputs, effects: true, staged: true, limits }), groups };
}
