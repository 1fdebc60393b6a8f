import { DataError } from "../base/errors";
import { plainTokens } from "./metrics-text";
import type { Generated } from "./metrics-text";

/** METEOR 1.5's parameters for English. */
const [ALPHA, BETA, GAMMA] = [0.85, 0.2, 0.6];
/** Weights of exact and of stemmed matches. */
const WEIGHTS = { exact: 1, stem: 0.6 } as const;

/** A matched pair of words, by their indices. */
interface Match {
  readonly word: number;
  readonly referenceWord: number;
  readonly weight: number;
}

/**
 * A variant of METEOR (Denkowski and Lavie 2014), from 0 to 1: the score with the best reference of each text, averaged over
 * texts. It has exact and Porter-stem matches with METEOR 1.5's parameters. Unlike the reference scorer, a Java program with
 * WordNet, it has no synonyms, no paraphrases and no weights of function words, and it matches greedily. So compare it only
 * with itself; `e2eMetricsFiles` gives the files that the reference scorer reads.
 * @throws DataError for nothing to score.
 */
export async function meteorVariant(items: readonly Generated[]): Promise<number> {
  if (items.length === 0) throw new DataError("no texts are scored", "give at least one text, with a reference");
  const { stemmer } = await import("stemmer");
  const scores = items.map(({ text, references }, i) => {
    if (references.length === 0) throw new DataError(`text ${i + 1} has no reference`, "give at least one");
    const words = plainTokens(text);
    return Math.max(...references.map((reference) => score(words, plainTokens(reference), stemmer)));
  });
  return scores.reduce((sum, value) => sum + value, 0) / scores.length;
}

function score(words: readonly string[], reference: readonly string[], stem: (word: string) => string): number {
  const matches = align(words, reference, stem).sort((a, b) => a.word - b.word);
  if (matches.length === 0) return 0;
  const weight = matches.reduce((sum, match) => sum + match.weight, 0);
  const [precision, recall] = [weight / words.length, weight / reference.length];
  const mean = (precision * recall) / (ALPHA * precision + (1 - ALPHA) * recall);
  const chunks = matches.filter(({ word, referenceWord }, i) => {
    const previous = matches[i - 1];
    return !previous || word !== previous.word + 1 || referenceWord !== previous.referenceWord + 1;
  }).length;
  // A text that equals its reference is not fragmented.
  const isEqual = chunks === 1 && matches.length === words.length && matches.length === reference.length;
  return mean * (1 - (isEqual ? 0 : GAMMA * (chunks / matches.length) ** BETA));
}

/** Matches exact words first, then stems. Among equal words, the one right after the previous match is preferred. */
function align(words: readonly string[], reference: readonly string[], stem: (word: string) => string): Match[] {
  const matches: Match[] = [];
  const [matchedWords, matchedReferenceWords] = [new Set<number>(), new Set<number>()];
  for (const [kind, keyOf] of [
    ["exact", (word: string) => word],
    ["stem", stem],
  ] as const) {
    const referenceKeys = reference.map(keyOf);
    let next = 0;
    words.forEach((word, i) => {
      if (matchedWords.has(i)) return;
      const key = keyOf(word);
      const candidates = referenceKeys.flatMap((referenceKey, j) =>
        referenceKey === key && !matchedReferenceWords.has(j) ? [j] : [],
      );
      const referenceWord = candidates.includes(next) ? next : candidates[0];
      if (referenceWord === undefined) return;
      matchedWords.add(i);
      matchedReferenceWords.add(referenceWord);
      matches.push({ word: i, referenceWord, weight: WEIGHTS[kind] });
      next = referenceWord + 1;
    });
  }
  return matches;
}
