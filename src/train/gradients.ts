import { NotFiniteError } from "../base/errors";
import type { Batch } from "../data/batch";
import type { Executor } from "../run/executor";
import { totalFlops } from "../tape/plan";
import { batchInputs, countedLabels } from "./inputs";
import type { TrainerOptions } from "./options";
import type { PlanBook } from "./plan-book";
import type { TrainState } from "./state";

export interface GradientParts {
  readonly options: TrainerOptions;
  readonly book: PlanBook;
  readonly executor: Executor;
  readonly state: TrainState;
}

/**
 * The gradients of one optimizer step, accumulated over its batches, without some layers' adapters.
 * @throws NotFiniteError for a loss that is not finite.
 */
export async function stepGradients(
  { options, book, executor, state }: GradientParts,
  batches: readonly Batch[],
  { step, dropped }: { readonly step: number; readonly dropped: readonly number[] },
): Promise<{ loss: number; flops: number }> {
  const { model } = options.model;
  const { virtualTokens } = options.adapter;
  const labels = batches.reduce((sum, batch) => sum + countedLabels(model, batch), 0);
  const parts = batches.flatMap((batch, index) =>
    book.split(batch).map((part) => ({ ...part, number: step * batches.length + index })),
  );
  let [loss, flops] = [0, 0];
  for (const [index, { batch, firstRow, number }] of parts.entries()) {
    const plan = book.planFor(batch, index > 0, dropped);
    const seed = { run: options.seed ?? 0, batch: number, firstRow };
    const inputs = batchInputs(model, batch, { labels, runs: parts.length, seed, virtualTokens });
    const outputs = await executor.run(plan, state, inputs);
    loss += outputs.get("loss")?.[0] ?? NaN;
    flops += totalFlops(plan);
  }
  checkFinite("loss", loss, step);
  return { loss, flops };
}

/** @throws NotFiniteError naming the step, from 0. */
export function checkFinite(what: string, value: number, step: number): void {
  if (Number.isFinite(value)) return;
  throw new NotFiniteError(
    `The ${what} of step ${step} is ${value}; the adapter keeps the values of the last good step.`,
    "Save it, then go on with a lower learning rate, clipping (maxGradNorm), or without the batch.",
    step,
  );
}
