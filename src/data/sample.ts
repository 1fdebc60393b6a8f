import { DataError } from "../base/errors";
import type { Example } from "./example";
import type { EncodeOptions, Tokenizer } from "./tokenizer";

/** A label that no loss counts: PyTorch's and Hugging Face's ignore index. */
export const IGNORED_LABEL = -100;

/** What a batch is made of: one row's tokens, and what is to be predicted. */
export interface Sample {
  readonly ids: Int32Array;
  /** As long as `ids`; all 0 where left out. */
  readonly typeIds?: Int32Array;
  /** A class or value for the row, a class for each token (as long as `ids`), or an answer's first and last token. */
  readonly label: number | Int32Array;
}

export interface SampleOptions extends Pick<EncodeOptions, "maxLength" | "tooLong"> {
  /** Rows of the model's embedding: an id from there on is an error. */
  readonly vocabularySize?: number;
  /** Classes of the model's head: a label from there on is an error. Left out for a regression. */
  readonly classes?: number;
}

export interface Samples {
  readonly samples: readonly Sample[];
  /** Examples that were longer than `maxLength` and lost tokens. */
  readonly truncated: number;
}

/**
 * Tokenises examples, in order. Labels of -1 (test files have none) become IGNORED_LABEL where there are classes. Throws
 * DataError with the example's number, from 1, for an id or label that the model does not have, an example without a
 * token, and a text that is too long where `tooLong` says so.
 */
export function encodeExamples(
  examples: readonly Example[],
  tokenizer: Tokenizer,
  { vocabularySize = Infinity, classes, ...options }: SampleOptions = {},
): Samples {
  let truncated = 0;
  const samples = examples.map((example, index) => {
    const { ids, typeIds, removed } = tokenizer.encode(example.text, example.pair, options);
    if (removed > 0) truncated++;
    checkIds(ids, vocabularySize, index);
    return { ids, typeIds, label: checkLabel(example.label, classes, index) };
  });
  return { samples, truncated };
}

/** Blocks of ids as samples of a language model: every token is its own label, and the loss shifts by one. */
export function blockSamples(blocks: readonly Int32Array[]): Sample[] {
  return blocks.map((ids) => ({ ids, label: ids }));
}

function checkIds(ids: Int32Array, vocabularySize: number, index: number): void {
  if (ids.length === 0) throw new DataError(`example ${index + 1} has no tokens`, "leave it out, or give it a text");
  const bad = ids.find((id) => id < 0 || id >= vocabularySize);
  if (bad === undefined) return;
  throw new DataError(
    `example ${index + 1} has the token id ${bad}, but the model knows ids below ${vocabularySize}`,
    "use the tokenizer that belongs to the model",
  );
}

function checkLabel(label: number, classes: number | undefined, index: number): number {
  if (classes === undefined) return label;
  if (label === -1 || label === IGNORED_LABEL) return IGNORED_LABEL;
  if (Number.isInteger(label) && label >= 0 && label < classes) return label;
  throw new DataError(
    `example ${index + 1} has the label ${label}, but the model has ${classes} classes`,
    `labels are integers from 0 to ${classes - 1}; num_labels of the model must fit the task`,
  );
}
