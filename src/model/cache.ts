import type { Recorder, Value } from "../tape/tape";

/** A cache of keys and values for generation, and how a trace attends over it. */
export interface CacheSpec {
  /** Number of texts that the cache has room for. */
  readonly rows: number;
  /** Number of tokens that a text may have. */
  readonly capacity: number;
  /** Most tokens of a text that are added at once. */
  readonly longestAddition: number;
  /** Whether the batch's tokens follow tokens that are already in the cache. False for the first tokens of texts. */
  readonly isContinuing: boolean;
  /** Room for the keys and values of an encoder's output: texts, and tokens of each. Undefined without an encoder. */
  readonly encoded?: { readonly rows: number; readonly capacity: number } | undefined;
  /** Appends the new tokens' keys and values to a module's cache, and attends over everything in it. */
  attend(recorder: Recorder, module: string, sites: CachedSites, cache: CacheSpec, shape: CachedShape): Value;
  /** Attends over an encoder's output. Its keys and values are put into a module's cache where they are given. */
  attendEncoded(recorder: Recorder, module: string, sites: EncodedSites, cache: CacheSpec, shape: CachedShape): Value;
}

/**
 * Queries, keys and values of new tokens. Keys and values are columns of x that begin at `offset`. `relative` has numbers
 * [entries, heads] for the differences of up to `capacity` positions. `prefix` keys come before those of the queries' positions.
 */
export interface CachedSites {
  readonly q: Value;
  readonly k: readonly [x: Value, offset: number];
  readonly v: readonly [x: Value, offset: number];
  readonly relative?: Value | undefined;
  readonly prefix?: number;
}

/** Queries of new tokens, and the keys and values of an encoder's output, unless they are in the cache already. */
export interface EncodedSites {
  readonly q: Value;
  readonly encoded: { readonly k: Value; readonly v: Value } | undefined;
}

/** Number and size of attention heads, and what scores are, as in `AttentionShape`. */
export interface CachedShape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headSize: number;
  readonly scale?: number | undefined;
  readonly cap?: number | undefined;
  readonly window?: number | undefined;
}
