import { DataError } from "../base/errors";
import { shapeOf } from "../model/model";
import type { BatchSize, Task } from "../model/model";
import { IGNORED_LABEL } from "./sample";
import type { Sample } from "./sample";

/**
 * Kind of a batch's labels. `class`: a class for each row; `value`: a number for each row (regression); `token`: a token id
 * (language model) or a class for each token; `span`: the first and last token of an answer for each row; `target`: the token ids of
 * another text for each row (encoder-decoder), or those that are predicted of it (masked language model).
 */
export type LabelKind = "class" | "value" | "token" | "span" | "target";

/** The kind of labels of each task. */
export const LABEL_KINDS: Readonly<Record<Task, LabelKind>> = {
  sequence_classification: "class",
  regression: "value",
  token_classification: "token",
  question_answering: "span",
  causal_lm: "token",
  masked_lm: "target",
  seq2seq: "target",
  image_classification: "class",
};

/** Rows of equal length, ready for the device. Arrays are [size, length] in row-major order unless said otherwise. */
export interface Batch extends BatchSize {
  /** Number of rows that hold a sample. They come first; the others are padding. */
  readonly rows: number;
  readonly inputIds: Int32Array;
  /** 1 for tokens, 0 for padding. In packed rows the number of a token's text in its row, from 1. */
  readonly attentionMask: Int32Array;
  readonly tokenTypeIds: Int32Array;
  /**
   * [size] for "class" and "value" (a Float32Array), [size, length] for "token", [size, 2] for "span", [size, targetLength]
   * for "target". IGNORED_LABEL marks what is not predicted. An encoder-decoder's decoder reads them shifted right.
   */
  readonly labels: Int32Array | Float32Array;
  /** Positions in their rows of the tokens that a masked language model predicts [size, targetLength]. */
  readonly predicted?: Int32Array;
  /** Number of the sample in each row [rows]. Equal numbers mean equal content throughout a run. */
  readonly ids?: Int32Array;
  /** Log-probability that the reference model gives to the answer of each row, in batches of pairs of answers [size]. */
  readonly reference?: Float32Array;
  /** How much the loss of each token counts beside the others', for `weightedTokens` [size, length]. Default all alike. */
  readonly weights?: Float32Array;
  /** The images of a model of images, which ignores `inputIds` [size, channels, rows, columns]. */
  readonly pixels?: Float32Array;
}

export interface BatchShape extends BatchSize {
  /** Token id of padding. Any valid id will do, since padding is masked. */
  readonly padId: number;
  readonly labels: LabelKind;
}

/**
 * Makes a batch of samples, padded on the right. If there are fewer samples than `size`, the other rows are padding: their
 * label is IGNORED_LABEL, and their mask is 0 except for the first position, since a softmax needs at least one. A loss that
 * skips this label and divides by the number of counted labels, as cross-entropy does, is then the mean over the real rows.
 * Gradients equal those of a smaller batch, because rows are independent of each other except in the loss.
 * @throws DataError for a sample that does not fit, or whose label is of another kind.
 */
export function makeBatch(samples: readonly Sample[], { padId, labels: kind, ...shape }: BatchShape): Batch {
  const { size, length, targetLength = 0 } = shape;
  const isPacked = samples.some(({ segments }) => segments);
  const batch = {
    ...shapeOf({ ...shape, isPacked }),
    rows: samples.length,
    inputIds: new Int32Array(size * length).fill(padId),
    attentionMask: new Int32Array(size * length),
    tokenTypeIds: new Int32Array(size * length),
    labels: emptyLabels(kind, size, { token: length, target: targetLength }),
    ...(samples.some(({ weights }) => weights) && { weights: new Float32Array(size * length).fill(1) }),
  };
  if (samples.length > size) throw new DataError(`${samples.length} samples for ${size} rows`, "make the batch larger");
  for (const [row, sample] of samples.entries()) fillRow(batch, row, sample, kind);
  for (let row = samples.length; row < size; row++) batch.attentionMask[row * length] = 1;
  return batch;
}

/** `length` rounded up to a multiple of `multiple`, but at most `maximum`. */
export function bucketLength(length: number, maximum: number, multiple: number): number {
  return Math.min(maximum, Math.ceil(length / multiple) * multiple);
}

function emptyLabels(
  kind: LabelKind,
  size: number,
  lengths: Readonly<Record<"token" | "target", number>>,
): Int32Array | Float32Array {
  if (kind === "value") return new Float32Array(size).fill(IGNORED_LABEL);
  const perRow = { class: 1, span: 2, ...lengths }[kind];
  return new Int32Array(size * perRow).fill(IGNORED_LABEL);
}

function fillRow(batch: Batch, row: number, { ids, typeIds, segments, weights, label }: Sample, kind: LabelKind): void {
  const start = row * batch.length;
  if (ids.length === 0 || ids.length > batch.length) {
    throw new DataError(
      `a sample has ${ids.length} tokens, but rows have 1 to ${batch.length}`,
      "truncate longer texts when they are encoded, and leave out empty ones",
    );
  }
  const count = typeof label === "number" ? undefined : label.length;
  const fits = count !== undefined && count > 0 && count <= (batch.targetLength ?? 0);
  if (kind === "target" && !fits) {
    throw new DataError(
      `a sample has ${count ?? "no"} tokens to write, but rows have 1 to ${batch.targetLength ?? 0}`,
      "truncate longer texts when they are encoded, and leave out empty ones",
    );
  }
  const expected = { class: undefined, value: undefined, span: 2, token: ids.length, target: count }[kind];
  if (count !== expected) {
    const labels = count === undefined ? "one label for the row" : `${count} labels for ${ids.length} tokens`;
    throw new DataError(`a sample has ${labels} in a batch of ${kind} labels`, `give the labels that "${kind}" needs`);
  }
  if (kind === "span" && typeof label !== "number") checkSpan(label);
  batch.inputIds.set(ids, start);
  batch.attentionMask.set(segments ?? ids.map(() => 1), start);
  if (weights) {
    if (weights.length !== ids.length) {
      throw new DataError(`a sample has ${weights.length} weights for ${ids.length} tokens`, "give one for each token");
    }
    batch.weights?.set(weights, start);
  }
  if (typeIds !== undefined) batch.tokenTypeIds.set(typeIds.subarray(0, ids.length), start);
  if (typeof label === "number") batch.labels[row] = label;
  else batch.labels.set(label, (row * batch.labels.length) / batch.size);
}

/** The loss is the mean over starts and ends, so both must count or neither. */
function checkSpan([first, last]: Int32Array): void {
  if ((first === IGNORED_LABEL) === (last === IGNORED_LABEL)) return;
  throw new DataError(
    `an answer goes from token ${first} to ${last}, one of which is not counted`,
    `give two positions, or ${IGNORED_LABEL} twice`,
  );
}
