import type { ReferenceTensor } from "../../op/declaration";
import type { Shape } from "../../base/shape";
import { elements } from "../../base/shape";

/** A float64 tensor of zeros. */
export function zeros(shape: Shape): ReferenceTensor {
  return { shape, data: new Float64Array(elements(shape)) };
}

/** A tensor of `shape` whose i-th element (row-major) is `value(i)`. */
export function filled(shape: Shape, value: (index: number) => number): ReferenceTensor {
  return { shape, data: Float64Array.from({ length: elements(shape) }, (_, index) => value(index)) };
}

/** The tensor in `slot`. */
export function input(inputs: Readonly<Record<string, ReferenceTensor>>, slot: string): ReferenceTensor {
  const tensor = inputs[slot];
  if (!tensor) throw new Error(`The reference has no input ${slot}.`);
  return tensor;
}

/** Element `index`, which must exist. */
export function at(tensor: ReferenceTensor, index: number): number {
  return tensor.data[index]!;
}

/** The product a b [m, n] of a [m, k] and b [k, n], each of which may be stored transposed. */
export function matrixProduct(
  a: ReferenceTensor,
  b: ReferenceTensor,
  m: number,
  n: number,
  k: number,
  transposed: { a?: boolean; b?: boolean } = {},
): Float64Array {
  const out = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let p = 0; p < k; p++) {
        sum += at(a, transposed.a ? p * m + i : i * k + p) * at(b, transposed.b ? j * k + p : p * n + j);
      }
      out[i * n + j] = sum;
    }
  }
  return out;
}
