import { ShapeError } from "../../base/errors";
import { formatShape } from "../../base/shape";
import type { ReferenceTensor } from "../../op/declaration";
import { dropoutParams } from "./product";
import { at } from "./reference";

/** The same 32 bits as `random_bits` of the kernels: pcg3d of Jarzynski and Olano (2020), first component. */
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

/** What makes one node's masks: its probability and salt, the batch's seeds [texts, 2], and the elements of one text. */
export interface Mask {
  readonly probability: number;
  readonly salt: number;
  readonly seed: ReferenceTensor;
  readonly perText: number;
}

/** `value` after dropout: 0, or scaled up where element `index` of the whole tensor is kept. */
export function droppedElement(value: number, index: number, { probability, salt, seed, perText }: Mask): number {
  if (probability === 0) return value;
  const text = Math.floor(index / perText);
  const bits = randomBits(index - text * perText, salt, [at(seed, 2 * text), at(seed, 2 * text + 1)]);
  return bits < dropoutParams(probability, salt)["keep_threshold"]! ? value / (1 - probability) : 0;
}

/**
 * Rows that each text has.
 * @throws ShapeError for seeds that are not two words for each of several equal parts of the rows.
 */
export function rowsPerText(op: string, seed: readonly number[], rows: number): number {
  const [texts = 0, words] = seed;
  if (seed.length === 2 && words === 2 && texts > 0 && rows % texts === 0) return rows / texts;
  throw new ShapeError(
    `${op}: seed ${formatShape(seed)} is not two words for each text of ${rows} rows.`,
    "Pass a u32 tensor of shape [texts, 2].",
  );
}
