import { DataError } from "../base/errors";
import { IGNORED_LABEL } from "./sample";
import type { Sample } from "./sample";

/** Consecutive tokens of a text. Only those of answers count in the loss. */
export interface TextPart {
  readonly ids: readonly number[];
  readonly isAnswer: boolean;
  /** Of an answer: how much the loss of each of its tokens counts beside the others'. Default 1. */
  readonly weight?: number;
}

/** Samples whose answers alone count in the loss, and how many texts were cut. */
export interface AnswerSamples {
  readonly samples: readonly Sample[];
  /** Number of texts that were too long and lost tokens. */
  readonly truncated: number;
  /** Number of texts that were left out because no answer is within the maximum length. */
  readonly dropped: number;
}

/**
 * Samples of a language model, one for each text, labelled on the tokens of answers alone.
 * @throws DataError if no text has an answer within its first `maxLength` tokens.
 */
export function answerSamples(texts: readonly (readonly TextPart[])[], maxLength: number): AnswerSamples {
  const samples: Sample[] = [];
  let truncated = 0;
  for (const parts of texts) {
    const allIds = parts.flatMap(({ ids }) => ids);
    const isAnswer = parts.flatMap((part) => part.ids.map(() => part.isAnswer));
    const ids = Int32Array.from(allIds.slice(0, maxLength));
    const label = ids.map((id, i) => (isAnswer[i] ? id : IGNORED_LABEL));
    const weights = parts.flatMap((part) => part.ids.map(() => part.weight ?? 1)).slice(0, maxLength);
    if (label.every((id) => id === IGNORED_LABEL)) continue;
    if (allIds.length > maxLength) truncated++;
    samples.push({
      ids,
      label,
      ...(weights.some((weight) => weight !== 1) && { weights: Float32Array.from(weights) }),
    });
  }
  if (samples.length === 0) {
    throw new DataError(`no text has an answer within its first ${maxLength} tokens`, "allow longer rows");
  }
  return { samples, truncated, dropped: texts.length - samples.length };
}
