import { cacheAppend } from "../ops/cache_append";
import { cachedAttention } from "../ops/cached_attention";
import type { Recorder, Value } from "../tape/tape";

/** Where a trace keeps keys and values of earlier tokens, for generation. */
export interface CacheSpec {
  /** Texts that the cache has room for, and tokens of each. */
  readonly rows: number;
  readonly capacity: number;
  /** Whether the batch's tokens follow others that are in the cache already, or are the texts' first. */
  readonly isContinuing: boolean;
}

/** Names of the two caches of an attention module. */
export const cacheNames = (module: string): readonly [keys: string, values: string] => [
  `keys of ${module}`,
  `values of ${module}`,
];

/** Whether a parameter of a trace is such a cache. */
export const isCacheName = (name: string): boolean => /^(?:keys|values) of /.test(name);

/** Queries, keys and values of new tokens: a value, and the first column that is meant. */
export interface CachedSites {
  readonly q: Value;
  readonly k: readonly [x: Value, offset: number];
  readonly v: readonly [x: Value, offset: number];
}

/** Appends new tokens' keys and values to a module's caches, and attends over all that these hold. */
export function attendCached(
  recorder: Recorder,
  module: string,
  { q, k, v }: CachedSites,
  { rows, capacity }: CacheSpec,
  {
    heads,
    kvHeads = heads,
    headSize,
  }: { readonly heads: number; readonly kvHeads?: number; readonly headSize: number },
): Value {
  const size = q.shape[0] as number;
  const places = {
    owners: recorder.input("owners", [size, capacity], "i32"),
    starts: recorder.input("starts", [size], "i32"),
  };
  const caches = cacheNames(module).map((name) => recorder.parameter(name, [rows, capacity, kvHeads * headSize]));
  [k, v].forEach(([x, offset], i) => {
    recorder.record(cacheAppend, { x, cache: caches[i], ...places }, { offset });
  });
  const [keys, values] = caches;
  return recorder.apply(
    cachedAttention,
    { q, k: keys, v: values, ...places },
    { heads, kvHeads, scale: 1 / Math.sqrt(headSize) },
  );
}
