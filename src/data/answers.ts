import { DataError } from "../base/errors";
import { IGNORED_LABEL } from "./sample";
import type { Sample } from "./sample";

/** A run of a text's tokens; the loss is on those of answers. */
export interface Part {
  readonly ids: readonly number[];
  readonly isAnswer: boolean;
}

/** Samples with their loss on answers, and what was lost of the texts. */
export interface AnswerSamples {
  readonly samples: readonly Sample[];
  /** Texts that were longer than allowed and lost tokens. */
  readonly truncated: number;
  /** Texts whose answers lie beyond the length, and which are left out. */
  readonly dropped: number;
}

/**
 * One sample a text, its labels on answers alone. Throws DataError where no text has an answer within its first `maxLength`
 * tokens.
 */
export function answerSamples(texts: readonly (readonly Part[])[], maxLength: number): AnswerSamples {
  const samples: Sample[] = [];
  let truncated = 0;
  for (const parts of texts) {
    const all = parts.flatMap(({ ids }) => ids);
    const counts = parts.flatMap(({ ids, isAnswer }) => ids.map(() => isAnswer));
    const ids = Int32Array.from(all.slice(0, maxLength));
    const label = ids.map((id, i) => (counts[i] ? id : IGNORED_LABEL));
    if (label.every((own) => own === IGNORED_LABEL)) continue;
    if (all.length > maxLength) truncated++;
    samples.push({ ids, label });
  }
  if (samples.length === 0) {
    throw new DataError(`no text has an answer within its first ${maxLength} tokens`, "allow longer rows");
  }
  return { samples, truncated, dropped: texts.length - samples.length };
}
