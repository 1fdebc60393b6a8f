import type { CachedShape, CachedSites, CacheSpec, EncodedSites } from "../model/cache";
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

/** Attends to an encoder's output, of which a module's caches hold the keys and values. */
export function attendEncoded(
  recorder: Recorder,
  module: string,
  { q, encoded }: EncodedSites,
  { encoded: room }: CacheSpec,
  { heads, kvHeads, headSize, scale = 1 / Math.sqrt(headSize) }: CachedShape,
): Value {
  const { rows, capacity } = room ?? { rows: 0, capacity: 0 };
  const size = q.shape[0]!;
  const positions = {
    owners: recorder.input("encoded_owners", [size, capacity], "i32"),
    starts: recorder.input("encoded_starts", [size], "i32"),
  };
  const [keys, values] = cacheNames(module).map((name) =>
    recorder.parameter(name, [rows, capacity, kvHeads * headSize]),
  );
  if (encoded) {
    recorder.record(cacheAppend, { x: encoded.k, cache: keys, ...positions }, { offset: 0 });
    recorder.record(cacheAppend, { x: encoded.v, cache: values, ...positions }, { offset: 0 });
  }
  return recorder.apply(
    cachedAttention,
    { q, k: keys, v: values, ...positions },
    { heads, kvHeads, scale, causal: false },
  );
}
