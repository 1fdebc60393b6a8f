import { DataError } from "../base/errors";

/** As SQuAD's evaluation does: lower case, no ASCII punctuation, no articles, single spaces. */
export function normaliseAnswer(text: string): string {
  const plain = text.toLowerCase().replace(/[!-/:-@[-`{-~]/g, "");
  return plain
    .replace(/\b(?:a|an|the)\b/g, " ")
    .split(/\s+/)
    .filter(Boolean)
    .join(" ");
}

/** 1 where the normalised texts are the same, else 0. */
export function exactMatch(prediction: string, answer: string): number {
  return normaliseAnswer(prediction) === normaliseAnswer(answer) ? 1 : 0;
}

/** F1 over the words that both have, each as often as both have it. */
export function answerF1(prediction: string, answer: string): number {
  const [own, wanted] = [prediction, answer].map((text) => normaliseAnswer(text).split(" ").filter(Boolean));
  const left = new Map<string, number>();
  for (const word of wanted ?? []) left.set(word, (left.get(word) ?? 0) + 1);
  let common = 0;
  for (const word of own ?? []) {
    const count = left.get(word) ?? 0;
    if (count === 0) continue;
    common++;
    left.set(word, count - 1);
  }
  if (common === 0) return 0;
  const [precision, recall] = [common / (own?.length ?? 1), common / (wanted?.length ?? 1)];
  return (2 * precision * recall) / (precision + recall);
}

/**
 * SQuAD v1.1's exact match and F1 in per cent (Rajpurkar et al. 2016, section 6.1): the best over each question's answers,
 * averaged over questions. @throws DataError for no questions, or one without a prediction.
 */
export function squadScores(
  predictions: ReadonlyMap<string, string>,
  examples: readonly { readonly id: string; readonly answers: readonly { readonly text: string }[] }[],
): { readonly exactMatch: number; readonly f1: number } {
  if (examples.length === 0) throw new DataError("SQuAD's scores over no questions", "give at least one");
  let [exact, f1] = [0, 0];
  for (const { id, answers } of examples) {
    const prediction = predictions.get(id);
    if (prediction === undefined) throw new DataError(`question ${id} has no prediction`, "predict an empty text");
    exact += Math.max(...answers.map(({ text }) => exactMatch(prediction, text)));
    f1 += Math.max(...answers.map(({ text }) => answerF1(prediction, text)));
  }
  return { exactMatch: (100 * exact) / examples.length, f1: (100 * f1) / examples.length };
}
