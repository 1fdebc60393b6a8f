import { characterAt } from "./aligned-text";
import { byteTokens, UnknownWordError } from "./vocabulary";
import type { Model, Vocabulary, WordToken } from "./vocabulary";
import { option, UnsupportedStep } from "./step";
import type { Step } from "./step";

/** How much less likely an unknown character is than the least likely token, as a difference of log-probabilities. */
const UNKNOWN_PENALTY = 10;

interface Arrival {
  readonly from: number;
  readonly id: number;
  readonly score: number;
}

/**
 * A text is the likeliest sequence of tokens (Kudo 2018), found by Viterbi's algorithm. Consecutive unknown characters are
 * one unknown token, or the tokens of their bytes.
 */
export function unigramModel(step: Step, vocabulary: Vocabulary): Model {
  const scores = scoresOf(step);
  const unknownId = step["unk_id"] ?? undefined;
  const unknown = (): number => {
    if (typeof unknownId !== "number") throw new UnknownWordError("unk_id");
    return unknownId;
  };
  const byteIds = option(step, "byte_fallback", "boolean", false) ? byteTokens(vocabulary) : undefined;
  let longest = 0;
  for (const token of vocabulary.keys()) longest = Math.max(longest, token.length);
  const lowest = scores.reduce((minimum, score) => Math.min(minimum, score), Infinity) - UNKNOWN_PENALTY;
  const encoder = new TextEncoder();

  const best = (text: string): WordToken[] => {
    const arrivals: (Arrival | undefined)[] = [];
    const arrive = (to: number, from: number, id: number, score: number): void => {
      const known = arrivals[to];
      if (known === undefined || score > known.score) arrivals[to] = { from, id, score };
    };
    for (let from = 0; from < text.length;) {
      const score = arrivals[from]?.score ?? 0;
      const next = from + characterAt(text, from).length;
      let hasToken = false;
      const last = Math.min(text.length, from + longest);
      for (let to = from + 1; to <= last; to++) {
        const id = vocabulary.get(text.slice(from, to));
        if (id === undefined) continue;
        arrive(to, from, id, score + scores[id]!);
        hasToken ||= to === next;
      }
      if (!hasToken) arrive(next, from, unknown(), score + lowest);
      from = next;
    }
    const tokens: WordToken[] = [];
    for (let to = text.length; to > 0;) {
      const { from, id } = arrivals[to]!;
      const following = tokens.at(-1);
      if (id === unknownId && following?.id === id) tokens[tokens.length - 1] = { ...following, from };
      else tokens.push({ id, from, to });
      to = from;
    }
    return tokens.reverse();
  };
  return (text) =>
    best(text).flatMap((token) => {
      if (token.id !== unknownId || byteIds === undefined) return [token];
      const ids = Array.from(encoder.encode(text.slice(token.from, token.to)), (byte) => byteIds[byte]);
      return ids.every((id) => id !== undefined) ? ids.map((id) => ({ ...token, id })) : [token];
    });
}

/** The log-probabilities of the tokens. */
function scoresOf({ vocab }: Step): number[] {
  if (!Array.isArray(vocab)) throw new UnsupportedStep("the vocabulary of Unigram is not a list of tokens with scores");
  // `readTokenizerFiles` has checked that entries are pairs of a token and a number.
  return (vocab as readonly (readonly [string, number])[]).map(([, score]) => score);
}
