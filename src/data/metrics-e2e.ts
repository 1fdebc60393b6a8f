import { meteor, meteorVariant } from "./meteor";
import { bleu, cider, nist, rougeL } from "./metrics-text";
import type { Generated } from "./metrics-text";
import type { WordNet } from "./wordnet";

/**
 * The five scores of the E2E challenge. METEOR's is NLTK's (`meteor`) with a WordNet, else this library's variant without
 * synonyms (`meteorVariant`).
 * @throws DataError for nothing to score.
 */
export function e2eScores(items: readonly Generated[], wordNet?: WordNet): Record<string, number> {
  const meteors = wordNet ? { meteor: meteor(items, wordNet) } : { meteorVariant: meteorVariant(items) };
  return { bleu: bleu(items), nist: nist(items), ...meteors, rougeL: rougeL(items), cider: cider(items) };
}

/**
 * The two text files that the E2E challenge's scorer reads: one line for each text, and the references of each text with an
 * empty line in between.
 */
export function e2eMetricsFiles(items: readonly Generated[]): { readonly system: string; readonly references: string } {
  const line = (text: string): string => text.replace(/\s+/g, " ").trim();
  return {
    system: items.map(({ text }) => `${line(text)}\n`).join(""),
    references: items.map(({ references }) => `${references.map(line).join("\n")}\n`).join("\n"),
  };
}
