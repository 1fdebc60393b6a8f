import { DataError } from "../base/errors";
import type { Example } from "./example";
import type { EncodeOptions, Tokenizer } from "./tokenizer";

/** The label that losses skip, the same as in PyTorch and Hugging Face. */
export const IGNORED_LABEL = -100;

/** A row of a batch: its tokens and what to predict. */
export interface Sample {
  /** Token ids. */
  readonly ids: Int32Array;
  /** Token types, as many as `ids`. Default all 0. */
  readonly typeIds?: Int32Array;
  /** Of a row that holds several texts, the number of each token's text, from 1; see `packSamples`. Default one text. */
  readonly segments?: Int32Array;
  /** How much each token's loss counts beside the others', as many as `ids`, from 0; see `weightedTokens`. Default all alike. */
  readonly weights?: Float32Array;
  /**
   * A class or value of the row, a token id or a class for each token, the first and last token of an answer, or the tokens of the text to
   * write.
   */
  readonly label: number | Int32Array;
}

export interface SampleOptions extends Pick<EncodeOptions, "maxLength" | "tooLong"> {
  /** Size of the model's vocabulary. Larger ids are errors. Default: no limit. */
  readonly vocabularySize?: number;
  /** Number of the model's classes. Larger labels are errors. Undefined for a regression. */
  readonly classes?: number;
}

export interface Samples {
  readonly samples: readonly Sample[];
  /** Number of examples that were longer than `maxLength` and lost tokens. */
  readonly truncated: number;
}

/**
 * Tokenises examples, in order. If there are classes, a label of -1 (as in test files) becomes IGNORED_LABEL.
 * @throws DataError with the example's number, counted from 1, for ids and labels that the model does not have, for an
 * example without tokens, and for a text that is too long if `tooLong` is "throw".
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

/** Samples of a language model from blocks of ids. Labels equal the ids; the loss compares each with the token before it. */
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
    `labels are integers from 0 to ${classes - 1}; the model's num_labels must fit the task`,
  );
}
