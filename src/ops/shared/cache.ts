import { LimitError, ShapeError } from "../../base/errors";
import { elements, formatShape, sameShape } from "../../base/shape";
import type { SlotSpecs } from "../../op/declaration";
import type { Limits } from "../../op/limits";

/** Sizes of a cache of keys or values [rows, ring, width]. */
export interface CacheSizes {
  /** Rows of the batch that the cache has space for. */
  readonly rows: number;
  /** Positions that a text may have. */
  readonly capacity: number;
  /** Tokens that a row has space for: position p is in p % ring, where it replaces an earlier one. */
  readonly ring: number;
  /** Elements of a token. */
  readonly width: number;
}

/**
 * Sizes of the cache in `slot`.
 *
 * @throws ShapeError unless x [b, t, ...], owners [b, capacity] and starts [b] fit it.
 */
export function cacheSizes(name: string, context: SlotSpecs, x: string, slot: string): CacheSizes {
  const [cache, tokens] = [context.spec(slot).shape, context.spec(x).shape];
  const [rows = 0, ring = 0, width = 0] = cache;
  const [batch = 0] = tokens;
  const [owners, starts] = [context.spec("owners").shape, context.spec("starts").shape];
  const [, capacity = 0] = owners;
  const fits =
    cache.length === 3 && tokens.length === 3 && sameShape(owners, [batch, capacity]) && 0 < ring && ring <= capacity;
  if (!fits || !sameShape(starts, [batch])) {
    throw new ShapeError(
      `${name}: owners ${formatShape(owners)} and starts ${formatShape(starts)} do not fit ${x} ${formatShape(tokens)} and the cache ${formatShape(cache)}.`,
      `Pass ${x} [b, t, d], a cache [rows, ring, d], owners [b, capacity] with capacity >= ring, and starts [b].`,
    );
  }
  return { rows, capacity, ring, width };
}

/** @throws LimitError if the cache exceeds one binding. It cannot be cut, since a text may read any of its rows. */
export function checkCacheBinding(name: string, context: SlotSpecs & { readonly limits: Limits }, slot: string): void {
  const bytes = elements(context.spec(slot).shape) * 4;
  if (bytes <= context.limits.bindingBytes) return;
  throw new LimitError(
    `${name}: the cache has ${bytes} bytes, but this adapter binds at most ${context.limits.bindingBytes} at once.`,
    "Generate for fewer texts or beams at a time, or fewer tokens.",
  );
}
