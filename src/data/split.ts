import type { Batch } from "./batch";
import { IGNORED_LABEL } from "./sample";

/** Some rows of a batch, as a batch of their own. */
export interface BatchPart {
  readonly batch: Batch;
  /** Where they begin in the whole batch. */
  readonly firstRow: number;
}

/**
 * A batch in parts of `size` rows, the last one filled up with rows that no loss counts; parts without a sample are left
 * out. A batch of no more rows is its own only part.
 */
export function splitBatch(batch: Batch, size: number): BatchPart[] {
  if (batch.size <= size) return [{ batch, firstRow: 0 }];
  const parts: BatchPart[] = [];
  for (let firstRow = 0; firstRow < batch.rows; firstRow += size) {
    parts.push({ batch: partOf(batch, firstRow, size), firstRow });
  }
  return parts;
}

function partOf(batch: Batch, firstRow: number, size: number): Batch {
  const take = <T extends Int32Array | Float32Array>(values: T, filler: number): T => {
    const perRow = values.length / batch.size;
    const part = values.slice(firstRow * perRow, (firstRow + size) * perRow) as T;
    if (part.length === size * perRow) return part;
    const filled = new (values.constructor as new (length: number) => T)(size * perRow).fill(filler) as T;
    filled.set(part);
    return filled;
  };
  const attentionMask = take(batch.attentionMask, 0);
  // A filling row sees its first position, so that no softmax is over nothing.
  for (let row = batch.size - firstRow; row < size; row++) attentionMask[row * batch.length] = 1;
  return {
    size,
    length: batch.length,
    rows: Math.min(size, batch.rows - firstRow),
    attentionMask,
    inputIds: take(batch.inputIds, 0),
    tokenTypeIds: take(batch.tokenTypeIds, 0),
    labels: take(batch.labels, IGNORED_LABEL),
    ...(batch.ids && { ids: batch.ids.slice(firstRow, Math.min(firstRow + size, batch.rows)) }),
    ...(batch.pixels && { pixels: take(batch.pixels, 0) }),
  };
}
