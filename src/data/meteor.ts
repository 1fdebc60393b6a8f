import { DataError } from "../base/errors";
import { plainTokens } from "./metrics-text";
import type { Generated } from "./metrics-text";

/** METEOR 1.5's parameters for English, and its weights of exact and stemmed matches. */
const [ALPHA, BETA, GAMMA] = [0.85, 0.2, 0.6];
const WEIGHTS = { exact: 1, stem: 0.6 } as const;

interface Match {
  readonly own: number;
  readonly other: number;
  readonly weight: number;
}

/**
 * A variant of METEOR (Denkowski and Lavie 2014), averaged over texts, the best reference of each: exact and Porter-stem
 * matches with METEOR 1.5's parameters, but no synonyms and paraphrases (the reference scorer is a Java program with
 * WordNet), no function-word weights, and matches taken greedily. Compare it with itself only; `e2eMetricsFiles` gives the
 * files that the reference scorer reads. From 0 to 1. @throws DataError for nothing to score.
 */
export async function meteorVariant(items: readonly Generated[]): Promise<number> {
  if (items.length === 0) throw new DataError("no texts are scored", "give at least one text, with a reference");
  const { stemmer } = await import("stemmer");
  const scores = items.map(({ text, references }, i) => {
    if (references.length === 0) throw new DataError(`text ${i + 1} has no reference`, "give each at least one");
    const own = plainTokens(text);
    return Math.max(...references.map((reference) => score(own, plainTokens(reference), stemmer)));
  });
  return scores.reduce((sum, value) => sum + value, 0) / scores.length;
}

function score(own: readonly string[], other: readonly string[], stem: (word: string) => string): number {
  const matches = [...align(own, other, stem)].sort((a, b) => a.own - b.own);
  if (matches.length === 0) return 0;
  const weight = matches.reduce((sum, match) => sum + match.weight, 0);
  const [precision, recall] = [weight / own.length, weight / other.length];
  const mean = (precision * recall) / (ALPHA * precision + (1 - ALPHA) * recall);
  const chunks = matches.filter(({ own: at, other: place }, i) => {
    const before = matches[i - 1];
    return !before || at !== before.own + 1 || place !== before.other + 1;
  }).length;
  // A text that is its reference has no fragmentation.
  const isWhole = chunks === 1 && matches.length === own.length && matches.length === other.length;
  return mean * (1 - (isWhole ? 0 : GAMMA * (chunks / matches.length) ** BETA));
}

/** Exact matches first, then stems; among equal words the one that goes on where the last match ended. */
function align(own: readonly string[], other: readonly string[], stem: (word: string) => string): Set<Match> {
  const matches = new Set<Match>();
  const [taken, used] = [new Set<number>(), new Set<number>()];
  for (const [kind, key] of [
    ["exact", (word: string) => word],
    ["stem", stem],
  ] as const) {
    const keys = other.map(key);
    let next = 0;
    own.forEach((word, i) => {
      if (taken.has(i)) return;
      const wanted = key(word);
      const places = keys.flatMap((found, place) => (found === wanted && !used.has(place) ? [place] : []));
      const place = places.includes(next) ? next : places[0];
      if (place === undefined) return;
      taken.add(i);
      used.add(place);
      matches.add({ own: i, other: place, weight: WEIGHTS[kind] });
      next = place + 1;
    });
  }
  return matches;
}

/** The two text files that the E2E challenge's scorer reads: a line a text; references in blocks, an empty line between. */
export function e2eMetricsFiles(items: readonly Generated[]): { readonly system: string; readonly references: string } {
  const line = (text: string): string => text.replace(/\s+/g, " ").trim();
  return {
    system: items.map(({ text }) => `${line(text)}\n`).join(""),
    references: items.map(({ references }) => `${references.map(line).join("\n")}\n`).join("\n"),
  };
}
