import type { ReferenceTensor } from "../../op/declaration";
import { dropoutParams } from "./product";
import { at } from "./reference";
import { randomBits } from "./dropout";

/** The numbers from which the dropout mask of a node follows. */
export interface DropoutMask {
  /** Probability that an element is dropped. */
  readonly probability: number;
  readonly salt: number;
  /** Two words for each text: [texts, 2]. */
  readonly seed: ReferenceTensor;
  /** Number of elements in a text. */
  readonly perText: number;
}

/** Element `index` of a tensor after dropout: 0 if it is dropped, else `value` / (1 - probability). */
export function droppedElement(value: number, index: number, mask: DropoutMask): number {
  const { probability, salt, seed, perText } = mask;
  if (probability === 0) return value;
  const text = Math.floor(index / perText);
  const bits = randomBits(index - text * perText, salt, [at(seed, 2 * text), at(seed, 2 * text + 1)]);
  return bits < dropoutParams(probability, salt)["keep_threshold"]! ? value / (1 - probability) : 0;
}
