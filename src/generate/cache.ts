import type { CachedShape, CachedSites, CacheSpec } from "../model/cache";
import { cacheAppend } from "../ops/cache_append";
import { cachedAttention } from "../ops/cached_attention";
import type { Recorder, Value } from "../tape/tape";

/** Names of the two caches of an attention module. */
const cacheNames = (module: string): readonly [keys: string, values: string] => [
  `keys of ${module}`,
  `values of ${module}`,
];

/** Whether a parameter of a trace is such a cache. */
export const isCacheName = (name: string): boolean => /^(?:keys|values) of /.test(name);

/** Appends new tokens' keys and values to a module's caches, and attends over all that these hold. */
export function attendCached(
  recorder: Recorder,
  module: string,
  { q, k, v }: CachedSites,
  { rows, capacity }: CacheSpec,
  { heads, kvHeads = heads, headSize }: CachedShape,
): Value {
  const size = q.shape[0]!;
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
