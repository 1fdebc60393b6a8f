import { Random } from "../../src/base/random";

/** The stack h = relu(h W + (h A) B), a frozen head of one output, and the mean squared error; Adam on A and B. */
export const [LAYERS, ROWS, WIDTH, RANK] = [12, 256, 256, 8];

/** Adam as every engine here takes it. */
export const ADAM = { learningRate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

/** Share of a row's typical value before a relu: some hundred times the rounding error of twelve layers. */
const KINK = 2e-5;

/** One engine's training of the stack with some of the adapters live, the top ones. */
export interface Stack {
  /** Loss, gradients and update. Resolves with the loss before the update, when the GPU is done. */
  step(): Promise<number>;
  /** A's and B's gradients, the lowest live layer first, A as [in, rank] and B as [rank, out]. */
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
 * The same values for every engine. He's scale keeps twelve layers of relu alive; B is not 0, so A has a gradient.
 * Rows of x are redrawn until no relu stands within rounding of 0, where gradients of two engines may rightly differ.
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

/** Whether a value is so near 0 before a relu that f32's rounding may decide its sign. */
function isNearKink(row: Float32Array, layers: readonly Layer[]): boolean {
  let h = Float64Array.from(row);
  for (const { w, a, b } of layers) {
    const lowRank = product(product(h, a), b);
    const sums = product(h, w).map((value, i) => value + lowRank[i]!);
    const typical = Math.hypot(...sums) / Math.sqrt(sums.length);
    if (sums.some((value) => Math.abs(value) < KINK * typical)) return true;
    h = sums.map((value) => Math.max(0, value));
  }
  return false;
}

/** A row times a matrix of as many rows. */
function product(row: Float64Array, matrix: Float32Array): Float64Array {
  const columns = matrix.length / row.length;
  const result = new Float64Array(columns);
  row.forEach((factor, i) => {
    for (let j = 0; j < columns; j++) result[j]! += factor * matrix[i * columns + j]!;
  });
  return result;
}

/** A [rows, columns] matrix as [columns, rows]. */
export function transposed(matrix: Float32Array, rows: number, columns: number): Float32Array {
  return Float32Array.from({ length: rows * columns }, (_, i) => {
    const [column, row] = [Math.floor(i / rows), i % rows];
    return matrix[row * columns + column]!;
  });
}
