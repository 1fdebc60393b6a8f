import type { Batch } from "../../../data/batch";
import type { Executor, Inputs } from "../../../run/executor";
import { totalFlops } from "../../../tape/plan";
import type { Merging } from "../../freezing/merging";
import { batchInputs } from "../../plans/inputs";
import { HIDDEN_STATES } from "../../plans/trace";
import type { GradientParts } from "../gradient-runs";
import type { PrefixCache } from "./cache";

/** What a run's prefix cache did in one step. */
export interface PrefixReport {
  /** The layer that the step began with; 0 while the lowest layer still changes. */
  readonly layer: number;
  /** Parts of the batches whose hidden states were in the cache. */
  readonly hits: number;
  /** All parts of the batches. */
  readonly parts: number;
  /** Bytes that the cache holds after the step. */
  readonly bytes: number;
}

export interface PrefixParts extends GradientParts {
  readonly executor: Executor;
  readonly cache: PrefixCache | undefined;
  readonly merging: Merging | undefined;
}

/** The hidden states that a step begins with, and what they cost. */
export interface StepPrefix {
  /** One entry for each part of the step's batches; empty objects where the step begins with the embeddings. */
  readonly inputs: readonly Inputs[];
  readonly flops: number;
  /** Undefined for a run without a cache. */
  readonly report: PrefixReport | undefined;
}

/** Reads or computes the input of the layer with which a step begins. */
export async function stepPrefix(parts: PrefixParts, batches: readonly Batch[]): Promise<StepPrefix> {
  const { book, state, cache, merging } = parts;
  const layer = book.prefixLayer();
  // The cached states depend on all of this; where it changes, they are computed again.
  await cache?.keepOnly(`${layer} layers, ${merging?.below(layer) ?? 0} merged, ${state.overwrites} overwrites`);
  const inputs: Inputs[] = [];
  let [flops, hits] = [0, 0];
  for (const { batch } of batches.flatMap((whole) => book.split(whole))) {
    const prefix = await partPrefix(parts, batch);
    inputs.push(prefix.inputs);
    flops += prefix.flops;
    hits += prefix.isHit ? 1 : 0;
  }
  return { inputs, flops, report: cache && { layer, hits, parts: inputs.length, bytes: cache.bytes } };
}

async function partPrefix(
  { book, executor, state, cache, options }: PrefixParts,
  part: Batch,
): Promise<{ readonly inputs: Inputs; readonly flops: number; readonly isHit: boolean }> {
  const plan = book.prefixFor(part);
  if (!plan) return { inputs: {}, flops: 0, isHit: false };
  const cached = await cache?.read(part, book.prefixLayer());
  if (cached) return { inputs: { [HIDDEN_STATES]: cached }, flops: 0, isHit: true };
  const outputs = await executor.run(plan, state, batchInputs(options.model.model, part, { adapter: options.adapter }));
  const hiddenStates = outputs.get(HIDDEN_STATES)!;
  await cache?.write(part, book.prefixLayer(), hiddenStates);
  return { inputs: { [HIDDEN_STATES]: hiddenStates }, flops: totalFlops(plan), isHit: false };
}
