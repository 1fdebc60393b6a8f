import { ConfigError } from "../base/errors";
import { elements } from "../base/shape";
import type { Shape } from "../base/shape";
import type { NamedTensors } from "./subject";

/** The place of a tensor in a vector of parameters. */
export interface Segment {
  readonly name: string;
  readonly shape: Shape;
  readonly offset: number;
  readonly length: number;
}

/** Layout of a vector that contains tensors one after the other. */
export class VectorLayout {
  readonly segments: readonly Segment[];
  /** Length of the vector. */
  readonly size: number;

  constructor(shapes: ReadonlyMap<string, { readonly shape: Shape }>) {
    let offset = 0;
    this.segments = [...shapes].map(([name, { shape }]) => {
      const length = elements(shape);
      offset += length;
      return { name, shape, offset: offset - length, length };
    });
    this.size = offset;
  }

  /** Copies tensors into a vector, [size]. @throws ConfigError for a tensor that is missing or has another size. */
  pack(tensors: ReadonlyMap<string, { readonly data: Float32Array }>): Float32Array {
    const vector = new Float32Array(this.size);
    for (const { name, offset, length } of this.segments) {
      const data = tensors.get(name)?.data;
      if (data?.length !== length) {
        throw new ConfigError(
          `${name} has ${data?.length ?? "no"} values, but the adapter needs ${length}.`,
          "Give all tensors of the analysed adapter, as subjectOf(trainer) does.",
        );
      }
      vector.set(data, offset);
    }
    return vector;
  }

  /** The tensors of a vector, [size]: views of it, not copies. */
  unpack(vector: Float32Array): NamedTensors {
    return new Map(
      this.segments.map(({ name, shape, offset, length }) => [
        name,
        { shape, data: vector.subarray(offset, offset + length) },
      ]),
    );
  }
}

/** Inner product of two vectors of the same length, summed in float64. */
export function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

/** Euclidean norm, summed in float64. */
export const norm = (a: ArrayLike<number>): number => Math.sqrt(dot(a, a));

/** Computes target += factor * source, elementwise. */
export function addScaled(target: Float64Array, factor: number, source: ArrayLike<number>): void {
  for (let i = 0; i < target.length; i++) target[i]! += factor * source[i]!;
}
