import { DataError } from "../base/errors";
import type { Conversation } from "../data/chat";
import { checkAnswersEnd, conversationParts } from "../data/jsonl";
import { IGNORED_LABEL } from "../data/sample";
import type { Sample } from "../data/sample";
import type { Tokenizer } from "../data/tokenizer";
import type { Preference } from "./read";

/** Two answers to one prompt as samples of a language model, which are labelled on the answers alone. */
export interface PreferencePair {
  readonly chosen: Sample;
  readonly rejected: Sample;
}

/** A pair with the log-probabilities that the reference model gives to its answers. */
export interface ReferencedPair extends PreferencePair {
  readonly reference: { readonly chosen: number; readonly rejected: number };
}

export interface PreferencePairs {
  readonly pairs: readonly PreferencePair[];
  /** Number of pairs of which an answer was cut. */
  readonly truncated: number;
}

export interface PreferencePairOptions {
  /** Tokens at which samples are cut. Default 1024. */
  readonly maxLength?: number;
  /** Size of the model's vocabulary. Larger ids are errors. Default: no limit. */
  readonly vocabularySize?: number;
}

/**
 * Tokenises preferences, in order. Plain texts begin with the tokenizer's begin tokens, and answers end with its end token; texts of chat
 * templates have these tokens already.
 * @throws DataError with the line for an answer of which no token is within `maxLength`, for answers that do not differ within it, and for
 * a token that the model does not have; and where nothing says how answers end.
 */
export function preferencePairs(
  preferences: readonly Preference[],
  tokenizer: Tokenizer,
  { maxLength = 1024, vocabularySize = Infinity }: PreferencePairOptions = {},
): PreferencePairs {
  checkAnswersEnd(
    preferences.flatMap(({ chosen, rejected }) => [chosen, rejected]),
    tokenizer,
  );
  let truncated = 0;
  const pairs = preferences.map(({ chosen, rejected, place }) => {
    const [first, second] = [chosen, rejected].map((conversation, i) => {
      const which = i === 0 ? "chosen" : "rejected";
      return sampleOf(conversation, tokenizer, { maxLength, vocabularySize, where: `${place}: the ${which} answer` });
    });
    if (first!.isCut || second!.isCut) truncated++;
    if (sameIds(first!.sample, second!.sample)) {
      throw new DataError(
        `${place}: chosen and rejected have the same first ${maxLength} tokens`,
        "allow longer rows (--max-length), or leave the line out",
      );
    }
    return { chosen: first!.sample, rejected: second!.sample };
  });
  return { pairs, truncated };
}

interface OneSample extends Required<PreferencePairOptions> {
  readonly where: string;
}

function sampleOf(
  conversation: Conversation,
  tokenizer: Tokenizer,
  { maxLength, vocabularySize, where }: OneSample,
): { readonly sample: Sample; readonly isCut: boolean } {
  const parts = conversationParts(conversation, tokenizer);
  const allIds = parts.flatMap((part) => part.ids);
  const isAnswer = parts.flatMap((part) => part.ids.map(() => part.isAnswer));
  const ids = Int32Array.from(allIds.slice(0, maxLength));
  const label = ids.map((id, i) => (isAnswer[i] ? id : IGNORED_LABEL));
  // What no token precedes is not predicted.
  if (!label.some((id, i) => i > 0 && id !== IGNORED_LABEL)) {
    const begin = isAnswer.indexOf(true);
    throw new DataError(
      `${where} begins at token ${begin + 1}, and rows have ${maxLength}`,
      begin === 0 ? "give it a prompt" : "allow longer rows (--max-length), or leave the line out",
    );
  }
  const unknown = ids.find((id) => id >= vocabularySize);
  if (unknown !== undefined) {
    throw new DataError(
      `${where} has the token id ${unknown}, and the model's vocabulary has ${vocabularySize}`,
      "use the tokenizer that belongs to the model",
    );
  }
  return { sample: { ids, label }, isCut: allIds.length > maxLength };
}

const sameIds = (a: Sample, b: Sample): boolean =>
  a.ids.length === b.ids.length && a.ids.every((id, i) => id === b.ids[i]);
