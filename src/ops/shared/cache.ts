import { LimitError, ShapeError } from "../../base/errors";
import { elements, formatShape, sameShape } from "../../base/shape";
import type { InferContext, LaunchContext } from "../../op/declaration";

/** A cache's sizes, by the slot that holds it: [rows, capacity, width]. */
export interface CacheSizes {
  readonly rows: number;
  readonly capacity: number;
  readonly width: number;
}

/** Sizes of the cache in `slot`, after checking that x [b, t, ...], owners [b, capacity] and starts [b] fit it. */
export function cacheSizes(name: string, context: InferContext<never>, x: string, slot: string): CacheSizes {
  const [cache, tokens] = [context.spec(slot).shape, context.spec(x).shape];
  const [rows = 0, capacity = 0, width = 0] = cache;
  const [batch = 0] = tokens;
  const [owners, starts] = [context.spec("owners").shape, context.spec("starts").shape];
  const fits = cache.length === 3 && tokens.length === 3 && sameShape(owners, [batch, capacity]);
  if (!fits || !sameShape(starts, [batch])) {
    throw new ShapeError(
      `${name}: owners ${formatShape(owners)} and starts ${formatShape(starts)} do not fit ${x} ${formatShape(tokens)} and the cache ${formatShape(cache)}.`,
      `Pass ${x} [b, t, d], a cache [rows, capacity, d], owners [b, capacity] and starts [b].`,
    );
  }
  return { rows, capacity, width };
}

/** @throws LimitError for a cache that cannot be bound at once: any text may own any of its rows. */
export function checkCacheBinding(name: string, context: LaunchContext<never>, slot: string): void {
  const bytes = elements(context.spec(slot).shape) * 4;
  if (bytes <= context.limits.bindingBytes) return;
  throw new LimitError(
    `${name}: a cache of ${bytes} bytes cannot be bound: this adapter binds at most ${context.limits.bindingBytes} bytes at once.`,
    "Generate for fewer texts or beams at a time, or fewer tokens.",
  );
}
