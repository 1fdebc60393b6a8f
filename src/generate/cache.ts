import type { CachedShape, CachedSites, CacheSpec } from "../model/cache";
import { cacheAppend } from "../ops/cache_append";
import { cachedAttention } from "../ops/cached_attention";
import type { Recorder, Value } from "../tape/tape";

/** Names of an attention module's caches. */
const cacheNames = (module: string): readonly [keys: string, values: string] => [
  `keys of ${module}`,
  `values of ${module}`,
];

/** Whether a parameter of a tape is a cache. */
export const isCacheName = (name: string): boolean => /^(?:keys|values) of /.test(name);

/**
 * Appends keys and values of new tokens to a module's caches, then attends to everything in them that a token sees. Where that is
 * a window, the caches have only room for it and for the tokens that are added at once.
 */
export function attendCached(
  recorder: Recorder,
  module: string,
  { q, k, v, relative }: CachedSites,
  { rows, capacity, longestAddition }: CacheSpec,
  { heads, kvHeads, headSize, scale = 1 / Math.sqrt(headSize), cap, window = capacity }: CachedShape,
): Value {
  const size = q.shape[0]!;
  const positions = {
    owners: recorder.input("owners", [size, capacity], "i32"),
    starts: recorder.input("starts", [size], "i32"),
  };
  const ring = Math.min(capacity, window + longestAddition);
  const caches = cacheNames(module).map((name) => recorder.parameter(name, [rows, ring, kvHeads * headSize]));
  [k, v].forEach(([x, offset], i) => {
    recorder.record(cacheAppend, { x, cache: caches[i], ...positions }, { offset });
  });
  const [keys, values] = caches;
  return recorder.apply(
    cachedAttention,
    { q, k: keys, v: values, relative, ...positions },
    { heads, kvHeads, scale, before: window, ...(cap !== undefined && { cap }) },
  );
}
