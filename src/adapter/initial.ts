import type { Random } from "../base/random";
import { elements } from "../base/shape";
import type { Shape } from "../base/shape";
import type { AdapterTensor } from "./adapter";

/** A tensor of an adapter without its layer, which `onProjections` adds. */
export type NewTensor = Omit<AdapterTensor, "layer">;

/** A tensor with initial values uniform in +-bound. */
export function uniform(name: string, shape: Shape, bound: number): NewTensor {
  const initial = (random: Random): Float32Array =>
    Float32Array.from({ length: elements(shape) }, () => (random.uniform() * 2 - 1) * bound);
  return { name, shape, initial };
}

/** A tensor with initial values from a normal distribution of mean 0. */
export function normal(name: string, shape: Shape, deviation: number): NewTensor {
  const initial = (random: Random): Float32Array =>
    Float32Array.from({ length: elements(shape) }, () => random.normal() * deviation);
  return { name, shape, initial };
}

/** A tensor with the same initial value everywhere. */
export function constant(name: string, shape: Shape, value: number): NewTensor {
  return { name, shape, initial: () => new Float32Array(elements(shape)).fill(value) };
}
