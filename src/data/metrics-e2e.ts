import { meteorVariant } from "./meteor";
import { bleu, cider, nist, rougeL } from "./metrics-text";
import type { Generated } from "./metrics-text";

/** The E2E challenge's five scores of generated texts; METEOR's is this library's variant. */
export async function e2eScores(items: readonly Generated[]): Promise<Record<string, number>> {
  return {
    bleu: bleu(items),
    nist: nist(items),
    meteorVariant: await meteorVariant(items),
    rougeL: rougeL(items),
    cider: cider(items),
  };
}
