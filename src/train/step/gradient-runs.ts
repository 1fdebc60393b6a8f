import type { Batch } from "../../data/batch";
import type { Inputs, Pass, Run } from "../../run/executor";
import { totalFlops } from "../../tape/plan";
import type { Plan } from "../../tape/plan";
import { batchInputs, countedLabels } from "../plans/inputs";
import { OWN, SO_FAR } from "../plans/loss-sum-plan";
import { LOSS } from "../plans/optimizer-plan";
import type { TrainerOptions } from "../options";
import type { PlanBook } from "../plans/plan-book";
import type { TrainableTensors } from "../tensors/trainable-tensors";

export interface GradientParts {
  readonly options: TrainerOptions;
  readonly book: PlanBook;
  readonly state: TrainableTensors;
}

/** The step from 0, and the layers whose adapters it leaves out. */
export interface StepPlace {
  readonly step: number;
  readonly dropped: readonly number[];
  /** What enters the layer that each part of the step's batches begins with, where that is not the first. */
  readonly below?: readonly Inputs[];
}

export interface GradientRuns {
  /** The last one's output "loss" is the step's. */
  readonly runs: readonly Run[];
  readonly flops: number;
}

/**
 * The runs that make the gradients of one optimizer step, accumulated over its batches, without some layers' adapters.
 * @param lossSum adds the losses of several runs up.
 * @param update the plan that is to read the loss, where one follows.
 * @throws DataError for a token id or a label that the model does not have.
 */
export function gradientRuns(
  { options, book, state }: GradientParts,
  batches: readonly Batch[],
  { step, dropped, below }: StepPlace,
  { lossSum, update }: { readonly lossSum?: Plan | undefined; readonly update?: Plan | undefined } = {},
): GradientRuns {
  const { model } = options.model;
  const { virtualTokens } = options.adapter;
  const labels = batches.reduce((sum, batch) => sum + countedLabels(model, batch), 0);
  const parts = batches.flatMap((batch, index) =>
    book.split(batch).map((part) => ({ ...part, number: step * batches.length + index })),
  );
  const runs: Run[] = [];
  let flops = 0;
  const last = parts.length - 1;
  const toUpdate: Pass | undefined = update && { output: LOSS, to: update, input: LOSS };
  for (const [index, { batch, firstRow, number }] of parts.entries()) {
    const plan = book.planFor(batch, index > 0, dropped);
    const seed = { run: options.seed ?? 0, batch: number, firstRow };
    const inputs = batchInputs(model, batch, { labels, runs: parts.length, seed, virtualTokens });
    const run = { plan, store: state, inputs: () => ({ ...inputs, ...below?.[index] }) };
    flops += totalFlops(plan);
    if (last === 0) return { runs: [{ ...run, pass: toUpdate }], flops };
    runs.push({ ...run, pass: { output: LOSS, to: lossSum!, input: index === 0 ? SO_FAR : OWN } });
    if (index === 0) continue;
    const onward = index < last ? { output: LOSS, to: lossSum!, input: SO_FAR } : toUpdate;
    runs.push({ plan: lossSum!, store: state, inputs: () => ({}), pass: onward });
  }
  return { runs, flops };
}
