import type { Recorder, Value } from "../tape/tape";

/** A cache of keys and values for generation, and how a trace attends over it. */
export interface CacheSpec {
  /** Number of texts that the cache has room for. */
  readonly rows: number;
  /** Number of tokens of each text that the cache has room for. */
  readonly capacity: number;
  /** Whether the batch's tokens follow tokens that are already in the cache. False for the first tokens of texts. */
  readonly isContinuing: boolean;
  /** Appends the new tokens' keys and values to a module's cache, and attends over everything in it. */
  attend(recorder: Recorder, module: string, sites: CachedSites, cache: CacheSpec, shape: CachedShape): Value;
}

/** Queries, keys and values of new tokens. Keys and values are columns of x that begin at `offset`. */
export interface CachedSites {
  readonly q: Value;
  readonly k: readonly [x: Value, offset: number];
  readonly v: readonly [x: Value, offset: number];
}

/** Number and size of attention heads. */
export interface CachedShape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headSize: number;
}
