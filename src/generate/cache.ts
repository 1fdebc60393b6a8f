import type { Shape } from "../base/shape";
import type { CachedShape, CachedSites, CacheSpec, EncodedSites } from "../model/cache";
import { behindPrefix } from "../model/forward";
import { cacheAppend } from "../ops/cache_append";
import { cachedAttention } from "../ops/cached_attention";
import type { Recorder, Value } from "../tape/tape";

/** The caches of an attention module. */
const cacheParameters = (recorder: Recorder, module: string, shape: Shape): readonly [keys: Value, values: Value] => [
  recorder.parameter(`keys of ${module}`, shape),
  recorder.parameter(`values of ${module}`, shape),
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
  { q, k, v, relative, prefix = 0 }: CachedSites,
  { rows, capacity, longestAddition }: CacheSpec,
  { heads, kvHeads, headSize, scale = 1 / Math.sqrt(headSize), cap, window = capacity }: CachedShape,
): Value {
  const size = q.shape[0]!;
  const startsOf = (input: string): Value => recorder.input(input, [size], "i32");
  const owners = recorder.input("owners", [size, capacity], "i32");
  const positions = { owners, starts: startsOf("starts") };
  const ofQueries = prefix > 0 ? { owners, starts: startsOf(behindPrefix("starts")) } : positions;
  const ring = Math.min(capacity, window + longestAddition);
  const [keys, values] = cacheParameters(recorder, module, [rows, ring, kvHeads * headSize]);
  recorder.record(cacheAppend, { x: k[0], cache: keys, ...positions }, { offset: k[1] });
  recorder.record(cacheAppend, { x: v[0], cache: values, ...positions }, { offset: v[1] });
  return recorder.apply(
    cachedAttention,
    { q, k: keys, v: values, relative, ...ofQueries },
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
  const [keys, values] = cacheParameters(recorder, module, [rows, capacity, kvHeads * headSize]);
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
