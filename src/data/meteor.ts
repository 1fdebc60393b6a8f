import { checkItems, mean, plainTokens } from "./metrics-text";
import type { Generated } from "./metrics-text";
import { nltkTokens } from "./nltk-tokens";
import { porterStem } from "./porter";
import type { WordNet } from "./wordnet";

/** A matched pair of words, by their indices. */
interface Match {
  readonly word: number;
  readonly referenceWord: number;
}

/**
 * METEOR (Banerjee and Lavie 2005) as Hugging Face's `evaluate` and NLTK compute it, from 0 to 1: exact, Porter-stem and
 * WordNet-synonym matches, alpha 0.9, beta 3, gamma 0.5; the score with the best reference of each text, averaged over texts.
 * The Java scorer of METEOR 1.5 gives other values, since it also has paraphrases and other parameters.
 * @param wordNet what `loadWordNet()` or `readWordNet(directory)` gives.
 * @throws DataError for nothing to score.
 */
export function meteor(items: readonly Generated[], wordNet: WordNet): number {
  checkItems(items);
  return mean(
    items.map(({ text, references }) => meteorOfTokens(nltkTokens(text), references.map(nltkTokens), wordNet)),
  );
}

/** METEOR of one text with its best reference, as `nltk.translate.meteor_score.meteor_score` gives it for the same tokens. */
export function meteorOfTokens(
  tokens: readonly string[],
  references: readonly (readonly string[])[],
  wordNet: WordNet,
): number {
  const [alpha, beta, gamma] = [0.9, 3, 0.5];
  const words = tokens.map((token) => token.toLowerCase());
  const scores = references.map((reference) => {
    const referenceWords = reference.map((token) => token.toLowerCase());
    const matches = nltkMatches(words, referenceWords, wordNet);
    if (matches.length === 0) return 0;
    const [precision, recall] = [matches.length / words.length, matches.length / referenceWords.length];
    const harmonic = (precision * recall) / (alpha * precision + (1 - alpha) * recall);
    return (1 - gamma * (countChunks(matches) / matches.length) ** beta) * harmonic;
  });
  return Math.max(...scores);
}

/**
 * Matches as NLTK makes them: stage by stage, from the last word to the first, each with the last free word of the reference.
 * The synonyms are those of the stems, since NLTK stems what exact matches leave and keeps the stems: "eatery", stemmed to
 * "eateri", has no synonym.
 */
function nltkMatches(words: readonly string[], reference: readonly string[], wordNet: WordNet): Match[] {
  type Word = readonly [index: number, form: string];
  let free: Word[] = [...words.entries()];
  let freeReference: Word[] = [...reference.entries()];
  const matches: Match[] = [];
  const match = (isMatch: (form: string) => (referenceForm: string) => boolean): void => {
    free = free
      .toReversed()
      .filter(([word, form]) => {
        const isMatchOfForm = isMatch(form);
        const at = freeReference.findLastIndex(([, referenceForm]) => isMatchOfForm(referenceForm));
        if (at < 0) return true;
        matches.push({ word, referenceWord: freeReference[at]![0] });
        freeReference = freeReference.toSpliced(at, 1);
        return false;
      })
      .toReversed();
  };
  const isEqual = (form: string) => (referenceForm: string) => form === referenceForm;
  match(isEqual);
  const stemmed = ([index, form]: Word): Word => [index, porterStem(form)];
  [free, freeReference] = [free.map(stemmed), freeReference.map(stemmed)];
  match(isEqual);
  match((form) => {
    const synonyms = wordNet.synonyms(form);
    return (referenceForm) => synonyms.has(referenceForm);
  });
  return matches.sort((a, b) => a.word - b.word);
}

/** Number of runs of matches whose words follow one another in both texts. */
function countChunks(matches: readonly Match[]): number {
  return matches.filter(({ word, referenceWord }, i) => {
    const previous = matches[i - 1];
    return !previous || word !== previous.word + 1 || referenceWord !== previous.referenceWord + 1;
  }).length;
}

/** METEOR 1.5's parameters for English. */
const [ALPHA, BETA, GAMMA] = [0.85, 0.2, 0.6];
/** Weights of exact and of stemmed matches. */
const WEIGHTS = { exact: 1, stem: 0.6 } as const;

/** A match with its weight. */
interface WeightedMatch extends Match {
  readonly weight: number;
}

/**
 * A variant of METEOR without synonyms (Denkowski and Lavie 2014), from 0 to 1, which needs no WordNet: the score with the best
 * reference of each text, averaged over texts. It has exact and Porter-stem matches with METEOR 1.5's parameters. Unlike the
 * reference scorer, a Java program with WordNet, it has no synonyms, no paraphrases and no weights of function words, and it
 * matches greedily. So compare it only with itself; `e2eMetricsFiles` gives the files that the reference scorer reads.
 * @throws DataError for nothing to score.
 */
export function meteorVariant(items: readonly Generated[]): number {
  checkItems(items);
  return mean(
    items.map(({ text, references }) => {
      const words = plainTokens(text);
      return Math.max(...references.map((reference) => score(words, plainTokens(reference))));
    }),
  );
}

function score(words: readonly string[], reference: readonly string[]): number {
  const matches = align(words, reference).sort((a, b) => a.word - b.word);
  if (matches.length === 0) return 0;
  const weight = matches.reduce((sum, match) => sum + match.weight, 0);
  const [precision, recall] = [weight / words.length, weight / reference.length];
  const harmonic = (precision * recall) / (ALPHA * precision + (1 - ALPHA) * recall);
  const chunks = countChunks(matches);
  // A text that equals its reference is not fragmented.
  const isEqual = chunks === 1 && matches.length === words.length && matches.length === reference.length;
  return harmonic * (1 - (isEqual ? 0 : GAMMA * (chunks / matches.length) ** BETA));
}

/** Matches exact words first, then stems. Among equal words, the one right after the previous match is preferred. */
function align(words: readonly string[], reference: readonly string[]): WeightedMatch[] {
  const matches: WeightedMatch[] = [];
  const [matchedWords, matchedReferenceWords] = [new Set<number>(), new Set<number>()];
  for (const [kind, keyOf] of [
    ["exact", (word: string) => word],
    ["stem", porterStem],
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
