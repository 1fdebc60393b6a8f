import type { Batch } from "../../../data/batch";
import type { Executor, Inputs } from "../../../run/executor";
import { totalFlops } from "../../../tape/plan";
import type { GradientParts } from "../gradient-runs";
import { batchInputs } from "../../plans/inputs";
import type { Merging } from "../../freezing/merging";
import type { PrefixCache } from "./cache";
import type { PrefixReport } from "../../loop/reports";
import { HIDDEN_STATES } from "../../plans/trace";

export interface PrefixParts extends GradientParts {
  readonly executor: Executor;
  readonly cache: PrefixCache | undefined;
  readonly merging: Merging | undefined;
}

/** What enters the layer that a step begins with, and what it took to have it. */
export interface StepPrefix {
  /** For each part of the step's batches. */
  readonly inputs: readonly Inputs[];
  readonly flops: number;
  /** Undefined for a run without a cache. */
  readonly report: PrefixReport | undefined;
}

/** Finds what a step's parts begin with, kept or computed; nothing where they begin with the embeddings. */
export async function stepPrefix(parts: PrefixParts, batches: readonly Batch[]): Promise<StepPrefix> {
  const { book, state, cache, merging } = parts;
  const layer = book.prefixLayer();
  await cache?.follow(`${layer} layers, ${merging?.below(layer) ?? 0} merged, ${state.overwrites} overwrites`);
  const inputs: Inputs[] = [];
  let [flops, hits] = [0, 0];
  for (const { batch } of batches.flatMap((whole) => book.split(whole))) {
    const below = await prefixOf(parts, batch);
    inputs.push(below.inputs);
    flops += below.flops;
    hits += below.isHit ? 1 : 0;
  }
  return { inputs, flops, report: cache && { layer, hits, parts: inputs.length, bytes: cache.bytes } };
}

async function prefixOf(
  { book, executor, state, cache, options }: PrefixParts,
  batch: Batch,
): Promise<{ readonly inputs: Inputs; readonly flops: number; readonly isHit: boolean }> {
  const prefix = book.prefixFor(batch);
  if (!prefix) return { inputs: {}, flops: 0, isHit: false };
  const kept = await cache?.read(batch);
  if (kept) return { inputs: { [HIDDEN_STATES]: kept }, flops: 0, isHit: true };
  const { virtualTokens } = options.adapter;
  const inputs = batchInputs(options.model.model, batch, { virtualTokens });
  const hidden = (await executor.run(prefix, state, inputs)).get(HIDDEN_STATES)!;
  await cache?.write(batch, hidden);
  return { inputs: { [HIDDEN_STATES]: hidden }, flops: totalFlops(prefix), isHit: false };
}
