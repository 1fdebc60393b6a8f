import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";
import type { Span } from "./offsets";
import type { SPECIAL_ROLES } from "./tokenizer-file";

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
  /** Where each token is in its text, as Python's tokenizers say, in UTF-16 units; [0, 0] for special tokens. */
  readonly spans: readonly Span[];
  /** For each token 0 for the first text, 1 for the second, undefined for special tokens. */
  readonly sources: readonly (0 | 1 | undefined)[];
  /** Number of tokens that were cut off. */
  readonly removed: number;
}

/** A tokenizer with its vocabulary. */
export interface Tokenizer {
  /** One more than the largest id. The model's vocabulary must have at least this size. */
  readonly vocabularySize: number;
  /** Maximum length of an input by tokenizer_config.json; undefined if it has no limit. */
  readonly modelMaxLength: number | undefined;
  /** The special tokens that `encode` puts before a text: a language model's begin token, if the tokenizer adds it. */
  readonly beginIds: readonly number[];
  /**
   * Ids of the tokens that end a text: `eos_token_id` of generation_config.json, else of config.json, else the tokenizer's. The
   * first one follows the answers that a model is trained on: the tokenizer's, if it is one of them.
   */
  readonly endIds: readonly number[];
  /** Id of the token that has a role in tokenizer_config.json, or special_tokens_map.json; undefined if there is none. */
  specialId(role: SpecialRole): number | undefined;
  /** Id of a token, as the vocabulary spells it; undefined for an unknown token. */
  idOf(token: string): number | undefined;
  /**
   * Tokenises a text, or a pair of texts.
   * @throws DataError for a token without an id, and for a text that is too long if `tooLong` is "throw".
   */
  encode(text: string, pair?: string, options?: EncodeOptions): Encoded;
  /** The tokens of a text, without special tokens, and the span of each, without white space at its ends. Throws as `encode`. */
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
export type SpecialRole = (typeof SPECIAL_ROLES)[number];

/**
 * Loads tokenizer.json, or else a model of SentencePiece (tokenizer.model, spiece.model) of LLaMA, Gemma, T5, DeBERTa or XLM-RoBERTa, and
 * what tokenizer_config.json, special_tokens_map.json, generation_config.json and config.json say, where they exist. The
 * readers are imported on first use, so programs that have token ids already do not need them.
 * @throws FileFormatError for files that cannot be used, naming a step of tokenizer.json that is not supported.
 */
export async function loadTokenizer(place: DirectoryLike): Promise<Tokenizer> {
  const directory = await directoryAt(place);
  const { openTokenizer } = await import("./loaded-tokenizer");
  return openTokenizer(directory);
}
