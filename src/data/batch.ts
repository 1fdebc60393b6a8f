import { DataError } from "../base/errors";
import type { Task } from "../model/model";
import { IGNORED_LABEL } from "./sample";
import type { Sample } from "./sample";

/**
 * What the labels of a batch are: a class a row, a number a row (regression), a class a token (language model), or the
 * first and the last token of an answer a row.
 */
export type LabelKind = "class" | "value" | "token" | "span";

/** What each task's batches are labelled with. */
export const LABEL_KINDS: Readonly<Record<Task, LabelKind>> = {
  sequence_classification: "class",
  regression: "value",
  question_answering: "span",
  causal_lm: "token",
  image_classification: "class",
};

/** Rows of one length, ready for the device. Arrays are [size x length], row-major, unless said otherwise. */
export interface Batch {
  /** Rows, padding rows included. */
  readonly size: number;
  /** Tokens of a row, padding included. */
  readonly length: number;
  /** Rows that hold a sample: the first ones. The others only fill the batch. */
  readonly rows: number;
  readonly inputIds: Int32Array;
  /** 1 for tokens, 0 for padding. */
  readonly attentionMask: Int32Array;
  readonly tokenTypeIds: Int32Array;
  /** [size], [size x length] for "token", [size x 2] for "span"; Float32Array for "value". IGNORED_LABEL where nothing is to be predicted. */
  readonly labels: Int32Array | Float32Array;
  /** Which sample each real row holds, [rows]: equal numbers stand for equal content throughout a run. */
  readonly ids?: Int32Array;
  /** Images [size, channels, rows, columns], where these are what a row holds; `inputIds` then mean nothing. */
  readonly pixels?: Float32Array;
}

export interface BatchShape {
  readonly size: number;
  readonly length: number;
  /** Id of padding; any valid id does, since padding is masked. */
  readonly padId: number;
  readonly labels: LabelKind;
}

/**
 * Puts samples into one batch, padded on the right. With fewer samples than `size` the rest are padding rows: mask 0
 * except for their first position (so that no softmax is over nothing), label IGNORED_LABEL. A loss that ignores this
 * label and divides by the labels it counted (cross-entropy does) is then the mean over the real rows, and their
 * gradients are what a smaller batch would give: rows meet in no op but the loss. Throws DataError for a sample that does
 * not fit, or whose label is of the wrong kind.
 */
export function makeBatch(samples: readonly Sample[], { size, length, padId, labels: kind }: BatchShape): Batch {
  const batch = {
    size,
    length,
    rows: samples.length,
    inputIds: new Int32Array(size * length).fill(padId),
    attentionMask: new Int32Array(size * length),
    tokenTypeIds: new Int32Array(size * length),
    labels: emptyLabels(kind, size, length),
  };
  if (samples.length > size) throw new DataError(`${samples.length} samples for ${size} rows`, "make the batch larger");
  for (const [row, sample] of samples.entries()) place(batch, row, sample, kind);
  for (let row = samples.length; row < size; row++) batch.attentionMask[row * length] = 1;
  return batch;
}

/** Smallest of the bucket lengths that holds `length`: multiples of `multiple`, and `maximum` itself as the last. */
export function bucketLength(length: number, maximum: number, multiple: number): number {
  return Math.min(maximum, Math.ceil(length / multiple) * multiple);
}

function emptyLabels(kind: LabelKind, size: number, length: number): Int32Array | Float32Array {
  if (kind === "value") return new Float32Array(size).fill(IGNORED_LABEL);
  const perRow = { class: 1, span: 2, token: length }[kind];
  return new Int32Array(size * perRow).fill(IGNORED_LABEL);
}

function place(batch: Batch, row: number, { ids, typeIds, label }: Sample, kind: LabelKind): void {
  const start = row * batch.length;
  if (ids.length === 0 || ids.length > batch.length) {
    throw new DataError(
      `a sample of ${ids.length} tokens in a batch of length ${batch.length}`,
      "truncate longer texts when they are encoded, and leave out empty ones",
    );
  }
  const wanted = { class: undefined, value: undefined, span: 2, token: ids.length }[kind];
  const given = typeof label === "number" ? undefined : label.length;
  if (given !== wanted) {
    const told = given === undefined ? "one label for the row" : `${given} labels for ${ids.length} tokens`;
    throw new DataError(`a sample has ${told} in a batch of ${kind} labels`, `give what "${kind}" needs`);
  }
  if (kind === "span") checkSpan(label as Int32Array);
  batch.inputIds.set(ids, start);
  batch.attentionMask.fill(1, start, start + ids.length);
  if (typeIds !== undefined) batch.tokenTypeIds.set(typeIds.subarray(0, ids.length), start);
  if (typeof label === "number") batch.labels[row] = label;
  else batch.labels.set(label, kind === "span" ? 2 * row : start);
}

/** The loss is the mean over starts and ends, so an answer counts whole or not at all. */
function checkSpan([first, last]: Int32Array): void {
  if ((first === IGNORED_LABEL) === (last === IGNORED_LABEL)) return;
  throw new DataError(
    `an answer goes from token ${first} to ${last}, one of which counts for nothing`,
    `give two positions, or ${IGNORED_LABEL} twice`,
  );
}
