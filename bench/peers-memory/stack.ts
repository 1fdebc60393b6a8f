import { Random } from "../../src/base/random";

// The benchmark: LAYERS times h = relu(h W + (h A) B), a frozen head of one output, the mean squared error, and Adam on A and B.
export const [LAYERS, ROWS, WIDTH, RANK] = [12, 256, 256, 8];

/** Adam's options, in a form that suits all engines. */
export const ADAM = { learningRate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

/** Smallest distance from a relu's kink relative to a row's typical value: a hundred times the rounding error of the stack. */
const MIN_DISTANCE = 2e-5;

/** Training of the stack on one engine, with only the top adapters live. */
export interface Stack {
  /** Takes a training step. Resolves with the loss before the update once the GPU is done. */
  step(): Promise<number>;
  /** Gradients of A ([in, rank]) and B ([rank, out]) of each live layer, the lowest layer first. */
  gradients(): Promise<Float32Array[]>;
}

export interface Layer {
  /** [in, out] */
  readonly w: Float32Array;
  /** [in, rank] */
  readonly a: Float32Array;
  /** [rank, out] */
  readonly b: Float32Array;
}

export interface Values {
  readonly layers: readonly Layer[];
  /** [rows, width] */
  readonly x: Float32Array;
  /** [width, 1] */
  readonly head: Float32Array;
  /** [rows] */
  readonly targets: Float32Array;
}

/**
 * The initial values, which are the same for every engine. He initialisation keeps activations alive through all layers.
 * B is not 0, so that A has a gradient. A row of x is drawn again while the input of any relu is so close to 0 that rounding
 * could decide its sign, since gradients of two engines could then differ.
 */
export function values(): Values {
  const random = new Random(1);
  const uniform = (count: number, scale: number): Float32Array =>
    Float32Array.from({ length: count }, () => scale * (2 * random.uniform() - 1));
  const layer = (): Layer => ({
    w: uniform(WIDTH * WIDTH, Math.sqrt(6 / WIDTH)),
    a: uniform(WIDTH * RANK, Math.sqrt(1 / WIDTH)),
    b: uniform(RANK * WIDTH, Math.sqrt(1 / WIDTH)),
  });
  const layers = Array.from({ length: LAYERS }, layer);
  const x = new Float32Array(ROWS * WIDTH);
  for (let i = 0; i < ROWS; i++) {
    let row = uniform(WIDTH, 1);
    while (isNearKink(row, layers)) row = uniform(WIDTH, 1);
    x.set(row, i * WIDTH);
  }
  return {
    layers,
    x,
    head: uniform(WIDTH, 0.1),
    targets: uniform(ROWS, 1),
  };
}

/** Whether the input of a relu is so close to 0 that f32 rounding may decide its sign. */
function isNearKink(row: Float32Array, layers: readonly Layer[]): boolean {
  let h = Float64Array.from(row);
  for (const { w, a, b } of layers) {
    const lowRank = product(product(h, a), b);
    const sums = product(h, w).map((value, i) => value + lowRank[i]!);
    const typical = Math.hypot(...sums) / Math.sqrt(sums.length);
    if (sums.some((value) => Math.abs(value) < MIN_DISTANCE * typical)) return true;
    h = sums.map((value) => Math.max(0, value));
  }
  return false;
}

/** A row vector times a matrix, whose number of rows is the vector's length. */
function product(row: Float64Array, matrix: Float32Array): Float64Array {
  const columns = matrix.length / row.length;
  const result = new Float64Array(columns);
  row.forEach((factor, i) => {
    for (let j = 0; j < columns; j++) result[j]! += factor * matrix[i * columns + j]!;
  });
  return result;
}

/** Transposes a [rows, columns] matrix. */
export function transposed(matrix: Float32Array, rows: number, columns: number): Float32Array {
  return Float32Array.from({ length: rows * columns }, (_, i) => {
    const [column, row] = [Math.floor(i / rows), i % rows];
    return matrix[row * columns + column]!;
  });
}
