import type { Recorder, Value } from "../tape/tape";

/** Where a trace keeps keys and values of earlier tokens, for generation. */
export interface CacheSpec {
  /** Texts that the cache has room for, and tokens of each. */
  readonly rows: number;
  readonly capacity: number;
  /** Whether the batch's tokens follow others that are in the cache already, or are the texts' first. */
  readonly isContinuing: boolean;
  /** Appends new tokens' keys and values to a module's caches, and attends over all that these hold. */
  attend(recorder: Recorder, module: string, sites: CachedSites, cache: CacheSpec, shape: CachedShape): Value;
}

/** Queries, keys and values of new tokens: a value, and the first column that is meant. */
export interface CachedSites {
  readonly q: Value;
  readonly k: readonly [x: Value, offset: number];
  readonly v: readonly [x: Value, offset: number];
}

export interface CachedShape {
  readonly heads: number;
  readonly kvHeads?: number;
  readonly headSize: number;
}
