import type { Batch } from "../../data/batch";
import type { Pass, Run } from "../../run/executor";
import { totalFlops } from "../../tape/plan";
import type { Plan } from "../../tape/plan";
import type { TrainerOptions } from "../options";
import type { BatchPart } from "../../data/split";
import { batchInputs, countedLabels } from "../plans/inputs";
import { LOSS_OF_RUN, LOSS_SO_FAR } from "../plans/loss-sum-plan";
import { LOSS } from "../plans/optimizer-plan";
import type { PlanBook } from "../plans/plan-book";
import type { TrainableTensors } from "../tensors/trainable-tensors";
import type { StepRuns } from "./look-ahead";
import type { GradientStep } from "./step";

export interface GradientParts {
  readonly options: TrainerOptions;
  readonly book: PlanBook;
  readonly state: TrainableTensors;
}

export interface GradientRunOptions {
  /** Adds the losses of several runs; needed where a step has more than one. */
  readonly lossSum?: Plan | undefined;
  /** The plan that reads the loss, where one follows. */
  readonly update?: Plan | undefined;
  /** The parts of each batch that run here, and this device's share of the step. Default: all of it. */
  readonly share?: StepShare;
}

/** A device's part of a step. */
export interface StepShare {
  readonly parts: (batch: Batch, index: number) => readonly BatchPart[];
  /** Its rows per row of the step. Undefined where they are a step of their own, whose loss is the mean over their labels. */
  readonly ofStep: number | undefined;
}

/**
 * The runs that compute the gradients of one optimizer step, accumulated over its batches. The output "loss" of the last
 * run is the loss of the step, or this device's part of it.
 * @throws DataError for a token id or a label that the model does not have.
 */
export function gradientRuns(
  { options, book, state }: GradientParts,
  { index: step, batches, droppedLayers, prefixInputs }: GradientStep,
  {
    lossSum,
    update,
    share = { parts: (batch) => book.split(batch, droppedLayers), ofStep: 1 },
  }: GradientRunOptions = {},
): StepRuns {
  const { model } = options.model;
  const { adapter, loss } = options;
  const parts = batches.flatMap((batch, i) =>
    share.parts(batch, i).map((part) => ({ ...part, number: step * (options.accumulate ?? 1) + i })),
  );
  const counted = share.ofStep === undefined ? parts.map(({ batch }) => batch) : batches;
  const labels = counted.reduce((sum, batch) => sum + countedLabels(model, batch, options), 0);
  const runs: Run[] = [];
  let flops = 0;
  const last = parts.length - 1;
  const toUpdate: Pass | undefined = update && { output: LOSS, to: update, input: LOSS };
  for (const [index, { batch, firstRow, number }] of parts.entries()) {
    const plan = book.planFor(batch, index > 0, droppedLayers);
    const seed = { run: options.seed ?? 0, batch: number, firstRow };
    const inputs = batchInputs(model, batch, { labels, runs: parts.length / (share.ofStep ?? 1), seed, adapter, loss });
    const run = { plan, store: state, inputs: () => ({ ...inputs, ...prefixInputs?.[index] }) };
    flops += totalFlops(plan);
    if (last === 0) return { runs: [{ ...run, pass: toUpdate }], flops };
    runs.push({ ...run, pass: { output: LOSS, to: lossSum!, input: index === 0 ? LOSS_SO_FAR : LOSS_OF_RUN } });
    if (index === 0) continue;
    const onward = index < last ? { output: LOSS, to: lossSum!, input: LOSS_SO_FAR } : toUpdate;
    runs.push({ plan: lossSum!, store: state, inputs: () => ({}), pass: onward });
  }
  return { runs, flops };
}
