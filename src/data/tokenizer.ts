import type { Directory } from "../io/directory";
import type { Span } from "./offsets";

export interface EncodeOptions {
  /** Most tokens of a result, special ones included. No limit by default. */
  readonly maxLength?: number;
  /** What to do with a longer text: cut the longer of a pair first (default), or throw DataError. */
  readonly tooLong?: "truncate" | "throw";
  /** Whether the tokenizer's post-processor adds its special tokens ([CLS], [SEP], ...); true by default. */
  readonly specialTokens?: boolean;
}

export interface Encoded {
  readonly ids: Int32Array;
  /** 0 for the first text, 1 for the second, as the post-processor says. As long as `ids`. */
  readonly typeIds: Int32Array;
  /** Tokens that were cut off. */
  readonly removed: number;
}

export interface Tokenizer {
  /** One more than the largest id: what the model's vocabulary must hold. */
  readonly vocabularySize: number;
  /** The longest input that tokenizer_config.json allows, if it says. */
  readonly modelMaxLength: number | undefined;
  /** tokenizer_config.json's tokens by role ("pad", "unk", "cls", "sep", "mask", "bos", "eos"), where it has them. */
  specialId(role: SpecialRole): number | undefined;
  /** Id of a token of the vocabulary, as it is written there. */
  idOf(token: string): number | undefined;
  /** Throws DataError for a text with a token that has no id, or one that is too long where that is an error. */
  encode(text: string, pair?: string, options?: EncodeOptions): Encoded;
  /** A text's tokens without special ones, and where in it each stands. Throws DataError as `encode`, or `tokenSpans`. */
  locate(text: string): { readonly ids: readonly number[]; readonly spans: readonly Span[] };
  /** Text of ids; special tokens are left out unless `keepSpecial`. Throws DataError for an id that does not exist. */
  decode(ids: Iterable<number>, options?: { readonly keepSpecial?: boolean }): string;
}

export type SpecialRole = "pad" | "unk" | "cls" | "sep" | "mask" | "bos" | "eos";

/**
 * Loads tokenizer.json, and tokenizer_config.json where there is one. The library, and what is built around it, is
 * imported on first use, so programs that bring their own ids need not ship it. Throws FileFormatError for files that it
 * cannot use.
 */
export async function loadTokenizer(directory: Directory): Promise<Tokenizer> {
  const { openTokenizer } = await import("./tokenizer-library");
  return openTokenizer(directory);
}
