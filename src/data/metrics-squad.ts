import { DataError } from "../base/errors";

/** Normalises a text as SQuAD's evaluation does: lower case, no ASCII punctuation, no articles, single spaces. */
export function normaliseAnswer(text: string): string {
  const plain = text.toLowerCase().replace(/[!-/:-@[-`{-~]/g, "");
  return plain
    .replace(/\b(?:a|an|the)\b/g, " ")
    .split(/\s+/)
    .filter(Boolean)
    .join(" ");
}

/** 1 if the normalised texts are equal, else 0. */
export function exactMatch(prediction: string, answer: string): number {
  return normaliseAnswer(prediction) === normaliseAnswer(answer) ? 1 : 0;
}

/** F1 of the words of the normalised texts, as multisets. */
export function answerF1(prediction: string, answer: string): number {
  const [predicted, expected] = [normalisedWords(prediction), normalisedWords(answer)];
  const unmatched = new Map<string, number>();
  for (const word of expected) unmatched.set(word, (unmatched.get(word) ?? 0) + 1);
  let common = 0;
  for (const word of predicted) {
    const count = unmatched.get(word) ?? 0;
    if (count === 0) continue;
    common++;
    unmatched.set(word, count - 1);
  }
  if (common === 0) return 0;
  const [precision, recall] = [common / predicted.length, common / expected.length];
  return (2 * precision * recall) / (precision + recall);
}

const normalisedWords = (text: string): string[] => normaliseAnswer(text).split(" ").filter(Boolean);

/**
 * Exact match and F1 of SQuAD v1.1, in per cent (Rajpurkar et al. 2016, section 6.1): the best over the answers of each
 * question, averaged over questions.
 * @param predictions by the question's id.
 * @throws DataError for no questions, and for a question without a prediction.
 */
export function squadScores(
  predictions: ReadonlyMap<string, string>,
  examples: readonly { readonly id: string; readonly answers: readonly { readonly text: string }[] }[],
): { readonly exactMatch: number; readonly f1: number } {
  if (examples.length === 0) throw new DataError("no questions are scored", "give at least one");
  let [exact, f1] = [0, 0];
  for (const { id, answers } of examples) {
    const prediction = predictions.get(id);
    if (prediction === undefined) throw new DataError(`question ${id} has no prediction`, "predict an empty text");
    exact += Math.max(...answers.map(({ text }) => exactMatch(prediction, text)));
    f1 += Math.max(...answers.map(({ text }) => answerF1(prediction, text)));
  }
  return { exactMatch: (100 * exact) / examples.length, f1: (100 * f1) / examples.length };
}
