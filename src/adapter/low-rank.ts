import type { FloatTensor } from "../io/safetensors";
import type { Forward, LinearSite } from "../model/forward";
import { loraLinear } from "../ops/lora_linear";
import type { Value } from "../tape/tape";
import type { LowRankUpdate } from "./adapter";

/** A low-rank update of a projection while it is traced: A [r, in], B [out, r]. */
export interface TracedUpdate {
  readonly a: Value;
  readonly b: Value;
  readonly scale: number;
  /** Probability of dropping an element of A's input while training. */
  readonly dropout: number;
}

/** y = x W + bias + scale * (drop(x) A^T) B^T (Hu et al. 2021, eq. 3), in one pass over y. */
export function lowRankLinear(forward: Forward, site: LinearSite, { a, b, scale, dropout }: TracedUpdate): Value {
  const probability = forward.isTraining ? dropout : 0;
  const isDropping = probability > 0;
  const inputs = {
    x: site.x,
    w: site.weight,
    bias: site.biasValue,
    a,
    b,
    seed: isDropping ? forward.seed : undefined,
  };
  const salt = isDropping ? forward.nextSalt() : 0;
  return forward.recorder.apply(loraLinear, inputs, { layout: site.layout, scale, dropout: probability, salt });
}

/** diag(rows) B diag(columns) [out, r] on the host. @param rows default all 1. */
export function scaledProduct(b: FloatTensor, rows: FloatTensor | undefined, columns: FloatTensor): FloatTensor {
  const width = b.shape[1] ?? 1;
  const factor = (i: number): number => (rows ? rows.data[Math.floor(i / width)]! : 1) * columns.data[i % width]!;
  return { shape: b.shape, data: b.data.map((value, i) => value * factor(i)) };
}

/** W + scale * B A on the host, with W [out, in], or [in, out] if transposed. */
export function withUpdate(weight: FloatTensor, { a, b, scale }: LowRankUpdate, isTransposed: boolean): FloatTensor {
  const [rank = 0, inSize = 0] = a.shape;
  const width = weight.shape[1] ?? 1;
  const data = weight.data.map((value, i) => {
    const [row, column] = [Math.floor(i / width), i % width];
    const [output, input] = isTransposed ? [column, row] : [row, column];
    let sum = 0;
    for (let k = 0; k < rank; k++) sum += b.data[output * rank + k]! * a.data[k * inSize + input]!;
    return value + scale * sum;
  });
  return { shape: weight.shape, data };
}

/** The norms [out] of each output's weights on the host, of W [out, in], or [in, out] if transposed. */
export function outputNorms({ shape, data }: FloatTensor, isTransposed: boolean): Float32Array {
  const width = (isTransposed ? shape.at(-1) : data.length / (shape[0] ?? 1)) ?? 1;
  const squares = new Float64Array(isTransposed ? width : data.length / width);
  data.forEach((value, i) => {
    const output = isTransposed ? i % width : Math.floor(i / width);
    squares[output] = squares[output]! + value ** 2;
  });
  return Float32Array.from(squares, Math.sqrt);
}
