import { option, UnsupportedStep } from "./step";
import type { Step } from "./step";

/** A token of a word, and the units [from, to) of the word that it spells. */
export interface WordToken {
  readonly id: number;
  readonly from: number;
  readonly to: number;
}

/** The tokens of a word. @throws UnknownWordError for one that cannot be spelled, if there is no token for unknown words. */
export type Model = (word: string) => readonly WordToken[];

/** A word that a vocabulary without an unknown token cannot spell. */
export class UnknownWordError extends Error {
  constructor(readonly token: string) {
    super(`the vocabulary has no token ${JSON.stringify(token)} for unknown words`);
  }
}

/** Tokens with their ids. */
export type Vocabulary = ReadonlyMap<string, number>;

/** The id of each byte's token, `<0x00>` to `<0xFF>`. */
export function byteTokens(vocabulary: Vocabulary): readonly (number | undefined)[] {
  return Array.from({ length: 256 }, (_, byte) =>
    vocabulary.get(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`),
  );
}

/** The id of the token that stands for unknown words, which fails where it is missed. */
export function unknownToken(step: Step, vocabulary: Vocabulary, defaultToken: string): () => number {
  const token = option(step, "unk_token", "string", defaultToken);
  const id = vocabulary.get(token);
  return () => {
    if (id === undefined) throw new UnknownWordError(token);
    return id;
  };
}

/** Refuses an option that is not supported. */
export function refuse(step: Step, key: string, isHarmless: (value: unknown) => boolean): void {
  const value = step[key];
  if (value === undefined || value === null || isHarmless(value)) return;
  throw new UnsupportedStep(`${key} of the model is not supported`);
}
