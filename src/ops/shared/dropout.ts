import { ShapeError } from "../../base/errors";
import { formatShape } from "../../base/shape";
import type { ReferenceTensor } from "../../op/declaration";
import { dropoutParams } from "./product";
import { at } from "./reference";

/** 32 random bits, as from `random_bits` of the kernels: the first component of pcg3d (Jarzynski and Olano 2020). */
export function randomBits(index: number, salt: number, seed: readonly [number, number]): number {
  const mix = (value: number): number => (Math.imul(value, 1664525) + 1013904223) | 0;
  let [x, y, z] = [mix(index), mix(salt ^ seed[1]), mix(seed[0])];
  x = (x + Math.imul(y, z)) | 0;
  y = (y + Math.imul(z, x)) | 0;
  z = (z + Math.imul(x, y)) | 0;
  x ^= x >>> 16;
  y ^= y >>> 16;
  z ^= z >>> 16;
  return (x + Math.imul(y, z)) >>> 0;
}

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

/**
 * Number of rows in each text.
 *
 * @throws ShapeError unless `seed` is [texts, 2] and the rows are divisible by the number of texts.
 */
export function rowsPerText(op: string, seed: readonly number[], rows: number): number {
  const [texts = 0, words] = seed;
  if (seed.length === 2 && words === 2 && texts > 0 && rows % texts === 0) return rows / texts;
  throw new ShapeError(
    `${op}: seed ${formatShape(seed)} does not fit ${rows} rows.`,
    "Pass a u32 tensor of shape [texts, 2], with rows divisible by texts.",
  );
}
