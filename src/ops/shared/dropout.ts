import type { HostTensor } from "../../op/declaration";
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

/** `value` after dropout: 0, or scaled up where element `index` of the whole tensor is kept. `seed` is u32 [2]. */
export function droppedElement(
  value: number,
  index: number,
  seed: HostTensor,
  probability: number,
  salt: number,
): number {
  if (probability === 0) return value;
  const bits = randomBits(index, salt, [at(seed, 0), at(seed, 1)]);
  return bits < dropoutParams(probability, salt)["keep_threshold"]! ? value / (1 - probability) : 0;
}
