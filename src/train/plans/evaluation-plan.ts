import type { LoadedModel } from "../../io/load-model";
import type { Adapter } from "../../adapter/adapter";
import { shapeOf } from "../../model/model";
import type { BatchSize } from "../../model/model";
import type { Limits } from "../../op/limits";
import { plan } from "../../tape/plan";
import type { Plan } from "../../tape/plan";
import type { Loss, Objective } from "../options";
import { trace } from "./trace";

/** Outputs of an evaluation: the mean loss [1], and the logits, except of a language model, or what an objective shows. */
export const EVALUATION_LOSS = "loss";
export const LOGITS = "logits";

/**
 * The plan that evaluates a batch of some shape: one forward pass without dropout, whose loss is the task's alone.
 * @param adapter undefined for the model as it was loaded.
 * @param ownLoss in place of the task's.
 * @throws DataError for rows that are longer than the model takes.
 */
export function evaluationPlan(
  { model, fragileNorms }: Pick<LoadedModel, "model" | "fragileNorms">,
  adapter: Adapter | undefined,
  batch: BatchSize,
  limits: Limits,
  ownLoss?: Loss | Objective,
): Plan {
  const options = { model, adapter, batch: shapeOf(batch), fragileNorms, loss: ownLoss };
  const { tape, loss, logits } = trace({ ...options, isTraining: false, isPenalised: false });
  const outputs =
    model.output && typeof ownLoss !== "object"
      ? { [EVALUATION_LOSS]: loss }
      : { [EVALUATION_LOSS]: loss, [LOGITS]: logits };
  return plan(tape, { outputs, limits });
}
