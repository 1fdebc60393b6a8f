import { ShapeError } from "../../base/errors";
import { formatShape } from "../../base/shape";

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
