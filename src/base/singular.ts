import { Random } from "./random";

/** A matrix of numbers, row-major. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float32Array | Float64Array;
}

/** Singular values of a matrix, the largest first, and their vectors, of norm 1 (0 where a value is 0). */
export interface SingularTriplets {
  readonly values: readonly number[];
  /** [rows] each. */
  readonly left: readonly Float64Array[];
  /** [columns] each. */
  readonly right: readonly Float64Array[];
}

/** Vectors by which the space grows at a time, so that singular values of this multiplicity are found. */
const BLOCK = 4;
/** Residual of a converged triplet, relative to the square of the largest singular value. */
const CONVERGED = 1e-11;
/** Share of its length at which what is left of a vector is rounding error. */
const VANISHED = 1e-10;

/**
 * The `count` largest singular values of W and their vectors, to rounding: Rayleigh and Ritz's method in the block Krylov space of
 * W W^T (Musco and Musco 2015, algorithm 2) with a complete reorthogonalisation, which grows until the residuals vanish, at most
 * to the shorter side. Sums are in float64. It begins with random vectors of a fixed seed: the result depends on W alone.
 */
export async function largestSingular(matrix: Matrix, count: number): Promise<SingularTriplets> {
  if (matrix.rows > matrix.columns) {
    const { values, left, right } = await largestSingular(transposed(matrix), count);
    return { values, left: right, right: left };
  }
  const { rows } = matrix;
  const random = new Random(0);
  const [basis, images]: [Float64Array[], Float64Array[]] = [[], []];
  let next = randomVectors(Math.min(BLOCK, rows), rows, random);
  for (let check = count + 4 * BLOCK; ;) {
    const added = orthonormal(next, basis, random);
    const addedImages = timesTransposed(matrix, added);
    basis.push(...added);
    images.push(...addedImages);
    const isComplete = basis.length === rows;
    const beyond = isComplete ? [] : times(matrix, addedImages);
    for (const vector of beyond) subtractProjections(vector, basis);
    if (isComplete || basis.length >= check) {
      const ritz = await ritzTriplets(basis, images, count);
      const largest = ritz.squares[0] ?? 0;
      if (isComplete || ritz.tails.every((tail) => norm(combination(beyond, tail)) <= CONVERGED * largest)) return ritz;
      check = Math.ceil(1.5 * basis.length);
    }
    next = beyond.slice(0, rows - basis.length);
  }
}

/**
 * About the `count` largest singular values of W and their vectors (Halko et al. 2009, algorithms 4.4 and 5.1), as torch.svd_lowrank:
 * the range of W is that of `count` random vectors after as many rounds of products with W^T and W.
 */
export async function randomisedSingular(
  matrix: Matrix,
  count: number,
  rounds: number,
  random: Random,
): Promise<SingularTriplets> {
  let range = orthonormal(times(matrix, randomVectors(count, matrix.columns, random)), [], random);
  for (let round = 0; round < rounds; round++) {
    const rows = orthonormal(timesTransposed(matrix, range), [], random);
    range = orthonormal(times(matrix, rows), [], random);
  }
  return ritzTriplets(range, timesTransposed(matrix, range), count);
}

/** The first `count` columns of Q [rows] and rows of R [columns] of W = Q R, by Householder's reflections with LAPACK's signs. */
export function leadingQr(
  matrix: Matrix,
  count: number,
): { readonly q: readonly Float64Array[]; readonly r: readonly Float64Array[] } {
  const { rows, columns, data } = matrix;
  const column = (j: number): Float64Array => Float64Array.from({ length: rows }, (_, i) => data[i * columns + j]!);
  /** v of each reflection 1 - 2 v v^T. */
  const reflections: Float64Array[] = [];
  const reflect = (x: Float64Array, v: Float64Array): void => addScaled(x, -2 * dot(v, x), v);
  for (let j = 0; j < count; j++) {
    const v = column(j);
    for (const reflection of reflections) reflect(v, reflection);
    v.fill(0, 0, j);
    const length = norm(v);
    v[j] = v[j]! + (v[j]! < 0 ? -length : length);
    const size = norm(v);
    reflections.push(size > 0 ? v.map((value) => value / size) : v);
  }
  const q = reflections.map((_, j) => {
    const x = new Float64Array(rows);
    x[j] = 1;
    for (const reflection of [...reflections].reverse()) reflect(x, reflection);
    return x;
  });
  // Below the diagonal R has rounding errors in place of zeros.
  const r = timesTransposed(matrix, q).map((row, i) => row.fill(0, 0, i));
  return { q, r };
}

/** What `ritzTriplets` finds. */
interface Ritz extends SingularTriplets {
  /** Squares of the singular values. */
  readonly squares: readonly number[];
  /** Coefficients of each left vector in the last vectors of the basis. */
  readonly tails: readonly (readonly number[])[];
}

/** The triplets of Q Q^T W in an orthonormal basis Q, of which the images are W^T Q. */
async function ritzTriplets(basis: Float64Array[], images: Float64Array[], count: number): Promise<Ritz> {
  const { EigenvalueDecomposition } = await import("ml-matrix");
  const gram = images.map((a, i) => images.map((b, j) => (j <= i ? dot(a, b) : 0)));
  gram.forEach((row, i) => row.forEach((_, j) => (row[j] = gram[Math.max(i, j)]![Math.min(i, j)]!)));
  const { realEigenvalues, eigenvectorMatrix } = new EigenvalueDecomposition(gram, { assumeSymmetric: true });
  const order = realEigenvalues.map((_, i) => i).sort((i, j) => realEigenvalues[j]! - realEigenvalues[i]!);
  const chosen = order.slice(0, count);
  const coefficients = chosen.map((i) => eigenvectorMatrix.getColumn(i));
  const left = coefficients.map((each) => combination(basis, each));
  const images2 = coefficients.map((each) => combination(images, each));
  const values = images2.map(norm);
  return {
    values,
    squares: values.map((value) => value ** 2),
    left,
    right: images2.map((image, i) => image.map((value) => value / (values[i]! || 1))),
    tails: coefficients.map((each) => each.slice(-BLOCK)),
  };
}

/** Rows of W that a pass over vectors takes at a time. */
const ROWS = 4;

/** W x of vectors x [columns]: vectors [rows]. */
function times({ rows, columns, data }: Matrix, vectors: readonly Float64Array[]): Float64Array[] {
  const products = vectors.map(() => new Float64Array(Math.ceil(rows / ROWS) * ROWS));
  for (let i = 0; i < rows; i += ROWS) {
    const [o0, o1, o2, o3] = rowOffsets(i, rows, columns);
    for (let k = 0; k < vectors.length; k++) {
      const x = vectors[k]!;
      let s0 = 0;
      let s1 = 0;
      let s2 = 0;
      let s3 = 0;
      for (let j = 0; j < columns; j++) {
        const value = x[j]!;
        s0 += data[o0 + j]! * value;
        s1 += data[o1 + j]! * value;
        s2 += data[o2 + j]! * value;
        s3 += data[o3 + j]! * value;
      }
      products[k]!.set([s0, s1, s2, s3], i);
    }
  }
  return products.map((product) => product.subarray(0, rows));
}

/** W^T y of vectors y [rows]: vectors [columns]. */
function timesTransposed({ rows, columns, data }: Matrix, vectors: readonly Float64Array[]): Float64Array[] {
  const products = vectors.map(() => new Float64Array(columns));
  for (let i = 0; i < rows; i += ROWS) {
    const [o0, o1, o2, o3] = rowOffsets(i, rows, columns);
    for (let k = 0; k < vectors.length; k++) {
      const x = products[k]!;
      const y = vectors[k]!;
      // Rows beyond the last have a factor of 0.
      const f0 = y[i]!;
      const f1 = y[i + 1] ?? 0;
      const f2 = y[i + 2] ?? 0;
      const f3 = y[i + 3] ?? 0;
      for (let j = 0; j < columns; j++) {
        x[j] = x[j]! + f0 * data[o0 + j]! + f1 * data[o1 + j]! + f2 * data[o2 + j]! + f3 * data[o3 + j]!;
      }
    }
  }
  return products;
}

/** Where four rows begin; those beyond the last are the last. */
function rowOffsets(row: number, rows: number, columns: number): readonly [number, number, number, number] {
  const at = (i: number): number => Math.min(row + i, rows - 1) * columns;
  return [at(0), at(1), at(2), at(3)];
}

/** W^T. */
export function transposed({ rows, columns, data }: Matrix): Matrix {
  const turned = data.slice();
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) turned[j * rows + i] = data[i * columns + j]!;
  return { rows: columns, columns: rows, data: turned };
}

const randomVectors = (count: number, length: number, random: Random): Float64Array[] =>
  Array.from({ length: count }, () => Float64Array.from({ length }, () => random.normal()));

/** Vectors of norm 1 that are orthogonal to a basis and to each other. What vanishes is replaced by random directions. */
function orthonormal(vectors: readonly Float64Array[], basis: readonly Float64Array[], random: Random): Float64Array[] {
  const added: Float64Array[] = [];
  for (const vector of vectors) {
    let direction = vector;
    let length = norm(vector);
    for (;;) {
      subtractProjections(direction, [...basis, ...added]);
      const left = norm(direction);
      if (left > VANISHED * length) {
        for (let i = 0; i < direction.length; i++) direction[i] = direction[i]! / left;
        break;
      }
      direction = randomVectors(1, vector.length, random)[0]!;
      length = norm(direction);
    }
    added.push(direction);
  }
  return added;
}

/** Subtracts a vector's projections onto orthonormal vectors, twice: once would leave rounding errors. */
function subtractProjections(vector: Float64Array, basis: readonly Float64Array[]): void {
  for (let pass = 0; pass < 2; pass++) for (const other of basis) addScaled(vector, -dot(other, vector), other);
}

/** The sum of vectors with coefficients. */
function combination(vectors: readonly Float64Array[], coefficients: ArrayLike<number>): Float64Array {
  const sum = new Float64Array(vectors[0]?.length ?? 0);
  vectors.forEach((vector, i) => addScaled(sum, coefficients[i]!, vector));
  return sum;
}

function dot(a: Float64Array, b: Float64Array): number {
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  let i = 0;
  for (; i + 3 < a.length; i += 4) {
    s0 += a[i]! * b[i]!;
    s1 += a[i + 1]! * b[i + 1]!;
    s2 += a[i + 2]! * b[i + 2]!;
    s3 += a[i + 3]! * b[i + 3]!;
  }
  for (; i < a.length; i++) s0 += a[i]! * b[i]!;
  return s0 + s1 + s2 + s3;
}

function addScaled(target: Float64Array, factor: number, vector: Float64Array): void {
  for (let i = 0; i < target.length; i++) target[i] = target[i]! + factor * vector[i]!;
}

const norm = (vector: Float64Array): number => Math.sqrt(dot(vector, vector));
