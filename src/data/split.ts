import { shapeOf } from "../model/model";
import type { Batch } from "./batch";
import { IGNORED_LABEL } from "./sample";

/** A part of a batch. */
export interface BatchPart {
  readonly batch: Batch;
  /** Index of its first row in the complete batch. */
  readonly firstRow: number;
}

/** Rows of a batch, from the first to the one before `to`. */
export interface RowRange {
  readonly from: number;
  readonly to: number;
}

/**
 * Splits a batch, or some of its rows, into parts of `size` rows. The last part is padded with rows that the loss does not
 * count. Parts without a sample are left out. A complete batch of at most `size` rows is returned as it is.
 */
export function splitBatch(batch: Batch, size: number, range?: RowRange): BatchPart[] {
  if (batch.size <= size && !range) return [{ batch, firstRow: 0 }];
  const { from, to } = range ?? { from: 0, to: batch.rows };
  // Without a range, the batch's own padding comes along.
  const end = range ? to : batch.size;
  const parts: BatchPart[] = [];
  for (let firstRow = from; firstRow < to; firstRow += size) {
    parts.push({ batch: partOf(batch, firstRow, size, Math.min(size, end - firstRow)), firstRow });
  }
  return parts;
}

/** @param count rows of the batch that the part has. */
function partOf(batch: Batch, firstRow: number, size: number, count: number): Batch {
  const fill = <T extends Int32Array | Float32Array>(part: T, values: Int32Array | Float32Array, filler: number): T => {
    const perRow = values.length / batch.size;
    part.fill(filler).set(values.subarray(firstRow * perRow, (firstRow + count) * perRow));
    return part;
  };
  const take = (values: Int32Array, filler: number): Int32Array =>
    fill(new Int32Array((values.length / batch.size) * size), values, filler);
  const takeFloats = (values: Float32Array, filler: number): Float32Array =>
    fill(new Float32Array((values.length / batch.size) * size), values, filler);
  const attentionMask = take(batch.attentionMask, 0);
  const { labels, pixels, predicted, reference, weights } = batch;
  // A padding row attends to its first position, since a softmax needs at least one.
  for (let row = count; row < size; row++) attentionMask[row * batch.length] = 1;
  return {
    ...shapeOf({ ...batch, size }),
    rows: Math.min(count, batch.rows - firstRow),
    attentionMask,
    inputIds: take(batch.inputIds, 0),
    tokenTypeIds: take(batch.tokenTypeIds, 0),
    labels: labels instanceof Int32Array ? take(labels, IGNORED_LABEL) : takeFloats(labels, IGNORED_LABEL),
    ...(batch.ids && { ids: batch.ids.slice(firstRow, Math.min(firstRow + count, batch.rows)) }),
    ...(predicted && { predicted: take(predicted, 0) }),
    ...(pixels && { pixels: takeFloats(pixels, 0) }),
    ...(reference && { reference: takeFloats(reference, 0) }),
    ...(weights && { weights: takeFloats(weights, 0) }),
  };
}
