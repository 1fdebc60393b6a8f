import { embedding } from "../ops/embedding";
import { relativeAttention } from "../ops/relative_attention";
import type { Forward, RelativePositions } from "./forward";

/** Keys of config.json that say how distances are cut into buckets. */
export interface BucketSizes {
  readonly relative_attention_num_buckets: number;
  readonly relative_attention_max_distance: number;
}

/**
 * The bucket of a distance, key minus query: one for each short distance, and logarithmically wider ones up to the maximum.
 * Causal attention has none for keys behind the query (Raffel et al. 2020, section 2.1; transformers'
 * `_relative_position_bucket`).
 */
export function relativeBucket(
  distance: number,
  isBidirectional: boolean,
  { relative_attention_num_buckets: all, relative_attention_max_distance: most }: BucketSizes,
): number {
  const buckets = isBidirectional ? Math.floor(all / 2) : all;
  const first = isBidirectional && distance > 0 ? buckets : 0;
  const size = isBidirectional ? Math.abs(distance) : Math.max(0, -distance);
  const exact = Math.floor(buckets / 2);
  if (size < exact) return first + size;
  const wide = Math.trunc((Math.log(size / exact) / Math.log(most / exact)) * (buckets - exact));
  return first + Math.min(buckets - 1, exact + wide);
}

/** The bucket of every difference of positions, query minus key, from 1 - tokens to tokens - 1. */
export const relativeBuckets = (tokens: number, isBidirectional: boolean, sizes: BucketSizes): Int32Array =>
  Int32Array.from({ length: 2 * tokens - 1 }, (_, i) => relativeBucket(tokens - 1 - i, isBidirectional, sizes));

/**
 * Numbers that attention adds to scores, from a table [buckets, heads] of the checkpoint. The trace reads `relativeBuckets` as
 * its input `buckets`.
 */
export function relativeBias(
  forward: Forward,
  { table, buckets, tokens }: { readonly table: string; readonly buckets: string; readonly tokens: number },
): RelativePositions {
  const numbers = forward.once(`numbers of ${buckets}`, () => {
    const ids = forward.recorder.input(buckets, [2 * tokens - 1], "i32");
    return forward.recorder.apply(embedding, { table: forward.parameter(table), ids }, {});
  });
  return { op: relativeAttention, table: numbers };
}
