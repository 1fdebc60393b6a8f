import { NotFiniteError } from "../base/errors";
import type { Batch } from "../data/batch";
import type { Executor, Inputs } from "../run/executor";
import { totalFlops } from "../tape/plan";
import { batchInputs, countedLabels } from "./inputs";
import type { TrainerOptions } from "./options";
import type { Merging } from "./merging";
import type { PlanBook } from "./plan-book";
import type { PrefixCache } from "./prefix-cache";
import type { PrefixReport } from "./report";
import type { TrainState } from "./state";
import { HIDDEN_STATES } from "./trace";

export interface GradientParts {
  readonly options: TrainerOptions;
  readonly book: PlanBook;
  readonly executor: Executor;
  readonly state: TrainState;
  readonly cache: PrefixCache | undefined;
  readonly merging: Merging | undefined;
}

/** What a step's gradients took. */
export interface StepGradients {
  readonly loss: number;
  readonly flops: number;
  readonly prefix: PrefixReport | undefined;
}

/**
 * The gradients of one optimizer step, accumulated over its batches, without some layers' adapters.
 * @throws NotFiniteError for a loss that is not finite.
 */
export async function stepGradients(
  parts: GradientParts,
  batches: readonly Batch[],
  { step, dropped }: { readonly step: number; readonly dropped: readonly number[] },
): Promise<StepGradients> {
  const { options, book, executor, state, cache, merging } = parts;
  await merging?.follow();
  const { model } = options.model;
  const { virtualTokens } = options.adapter;
  const labels = batches.reduce((sum, batch) => sum + countedLabels(model, batch), 0);
  const runs = batches.flatMap((batch, index) =>
    book.split(batch).map((part) => ({ ...part, number: step * batches.length + index })),
  );
  const layer = book.prefixLayer();
  await cache?.follow(`${layer} layers, ${merging?.below(layer) ?? 0} merged, ${state.overwrites} overwrites`);
  let [loss, flops, hits] = [0, 0, 0];
  for (const [index, { batch, firstRow, number }] of runs.entries()) {
    const plan = book.planFor(batch, index > 0, dropped);
    const seed = { run: options.seed ?? 0, batch: number, firstRow };
    const inputs = batchInputs(model, batch, { labels, runs: runs.length, seed, virtualTokens });
    const below = await prefixOf(parts, batch, inputs);
    const outputs = await executor.run(plan, state, { ...inputs, ...below.inputs });
    loss += outputs.get("loss")?.[0] ?? NaN;
    flops += totalFlops(plan) + below.flops;
    hits += below.isHit ? 1 : 0;
  }
  checkFinite("loss", loss, step);
  return { loss, flops, prefix: cache && { layer, hits, parts: runs.length, bytes: cache.bytes } };
}

/** What enters the layer that a step begins with, kept or computed. */
async function prefixOf(
  { book, executor, state, cache }: GradientParts,
  batch: Batch,
  inputs: Inputs,
): Promise<{ readonly inputs: Inputs; readonly flops: number; readonly isHit: boolean }> {
  const prefix = book.prefixFor(batch);
  if (!prefix) return { inputs: {}, flops: 0, isHit: false };
  const kept = await cache?.read(batch);
  if (kept) return { inputs: { [HIDDEN_STATES]: kept }, flops: 0, isHit: true };
  const hidden = (await executor.run(prefix, state, inputs)).get(HIDDEN_STATES) as Float32Array;
  await cache?.write(batch, hidden);
  return { inputs: { [HIDDEN_STATES]: hidden }, flops: totalFlops(prefix), isHit: false };
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
