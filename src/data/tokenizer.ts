import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";
import type { Span } from "./offsets";

export interface EncodeOptions {
  /** Maximum number of tokens, including special ones. Default: no limit. */
  readonly maxLength?: number;
  /** What to do with a longer text: truncate the longer text of a pair first (default), or throw a DataError. */
  readonly tooLong?: "truncate" | "throw";
  /** Whether to add the special tokens of the tokenizer's post-processor ([CLS], [SEP], ...). Default true. */
  readonly specialTokens?: boolean;
}

/** A tokenised text, or pair of texts. */
export interface Encoded {
  readonly ids: Int32Array;
  /** Token types, as many as `ids`: 0 for the first text, 1 for the second, as the post-processor defines. */
  readonly typeIds: Int32Array;
  /** Number of tokens that were cut off. */
  readonly removed: number;
}

/** A tokenizer with its vocabulary. */
export interface Tokenizer {
  /** One more than the largest id. The model's vocabulary must have at least this size. */
  readonly vocabularySize: number;
  /** Maximum length of an input by tokenizer_config.json; undefined if it has no limit. */
  readonly modelMaxLength: number | undefined;
  /** Id of the token that has a role in tokenizer_config.json; undefined if there is none. */
  specialId(role: SpecialRole): number | undefined;
  /** Id of a token, as the vocabulary spells it; undefined for an unknown token. */
  idOf(token: string): number | undefined;
  /**
   * Tokenises a text, or a pair of texts.
   * @throws DataError for a token without an id, and for a text that is too long if `tooLong` is "throw".
   */
  encode(text: string, pair?: string, options?: EncodeOptions): Encoded;
  /** The tokens of a text, without special tokens, and the span of each in the text. Throws as `encode` and `tokenSpans`. */
  locate(text: string): { readonly ids: readonly number[]; readonly spans: readonly Span[] };
  /**
   * The tokens of a word of a text that is given as words, without special tokens: what transformers' `is_split_into_words` makes
   * of it. Before a word of byte-level BPE there is a space (`add_prefix_space`), which RoBERTa's tokenizer demands. Throws as
   * `encode`.
   */
  wordIds(word: string): readonly number[];
  /**
   * The text of some ids.
   * @param options.keepSpecial whether to include special tokens. Default false.
   * @throws DataError for an id that does not exist.
   */
  decode(ids: Iterable<number>, options?: { readonly keepSpecial?: boolean }): string;
}

/** Role of a special token. */
export type SpecialRole = "pad" | "unk" | "cls" | "sep" | "mask" | "bos" | "eos";

/**
 * Loads tokenizer.json and, if it exists, tokenizer_config.json. The tokenizer library is imported on first use, so programs
 * that have token ids already do not need it.
 * @throws FileFormatError for files that cannot be used.
 */
export async function loadTokenizer(place: DirectoryLike): Promise<Tokenizer> {
  const directory = await directoryAt(place);
  const { openTokenizer } = await import("./tokenizer-library");
  return openTokenizer(directory);
}
