import { Random } from "../base/random";
import { addScaled, dot, norm } from "./vector";

/** Computes the eigenvalues of a real symmetric matrix, and its orthonormal eigenvectors as columns. */
export type SymmetricEigen = (matrix: number[][]) => {
  readonly values: readonly number[];
  readonly vectors: readonly (readonly number[])[];
};

export interface LanczosOptions {
  /** Rows of the matrix. */
  readonly size: number;
  /** Number of eigenvalues to compute: those of largest magnitude. */
  readonly count: number;
  /** Most products with the matrix. */
  readonly maxSteps: number;
  /** Stops once the residual of each of these eigenvalues is below this share of the largest magnitude. */
  readonly tolerance: number;
  /** Seed of the first vector. */
  readonly seed: number;
  /** Solves the small tridiagonal problem. */
  readonly eigen: SymmetricEigen;
  /** Called after every product with the number of products. */
  readonly onStep?: (step: number) => void;
}

/** An approximate eigenvalue of a matrix A, and its eigenvector. */
export interface EigenPair {
  readonly value: number;
  /** ||A v - value v||, from the recurrence of Lanczos' method. */
  readonly residual: number;
  /** The eigenvector v, of norm 1. */
  readonly vector: Float32Array;
}

export interface LanczosResult {
  /** By decreasing magnitude. */
  readonly pairs: readonly EigenPair[];
  /** Products that were computed. */
  readonly steps: number;
  /** Largest |v_i . A v_j| that is 0 for a symmetric A, relative to the largest eigenvalue: a measure of asymmetry. */
  readonly asymmetry: number;
}

/** A remainder below this share of the largest eigenvalue is rounding error. */
const BREAKDOWN = 1e-9;

/**
 * The eigenvalues of largest magnitude of a symmetric matrix that is given by its products with vectors: Lanczos' method
 * with full reorthogonalisation (Golub and Van Loan, Matrix Computations, 4th edition, section 10.3). When the basis spans
 * an invariant subspace, it continues with a random vector orthogonal to it. The basis is kept in f32: 4 * size * steps
 * bytes of host memory. A multiple eigenvalue may be found only once.
 */
export async function lanczos(
  apply: (v: Float32Array) => Promise<ArrayLike<number>>,
  options: LanczosOptions,
): Promise<LanczosResult> {
  const random = new Random(options.seed);
  const maxSteps = Math.min(options.maxSteps, options.size);
  const basis: Float32Array[] = [];
  const [alphas, betas]: [number[], number[]] = [[], []];
  let next = randomOrthogonal(random, basis, options.size);
  let [ritz, skew]: [RitzPair[], number] = [[], 0];
  while (basis.length < maxSteps) {
    basis.push(next);
    const w = Float64Array.from(await apply(next));
    const projections = basis.map((v) => dot(v, w));
    // The product of a symmetric matrix is orthogonal to all but the last two vectors of the basis.
    skew = projections.slice(0, -2).reduce((worst, value) => Math.max(worst, Math.abs(value)), skew);
    alphas.push(projections.at(-1)!);
    orthogonalise(w, basis);
    const beta = norm(w);
    ritz = ritzPairs(alphas, betas, beta, options);
    options.onStep?.(basis.length);
    const largest = Math.abs(ritz[0]?.value ?? 0);
    if (ritz.length === options.count && ritz.every(({ residual }) => residual <= options.tolerance * largest)) break;
    const isInvariant = beta <= BREAKDOWN * Math.max(largest, Number.MIN_VALUE);
    betas.push(isInvariant ? 0 : beta);
    if (basis.length < maxSteps)
      next = isInvariant ? randomOrthogonal(random, basis, options.size) : Float32Array.from(w, (x) => x / beta);
  }
  const largest = Math.abs(ritz[0]?.value ?? 0);
  return {
    pairs: ritz.map(({ value, residual, coefficients }) => ({ value, residual, vector: combine(basis, coefficients) })),
    steps: basis.length,
    asymmetry: largest > 0 ? skew / largest : 0,
  };
}

/** An eigenvalue of the tridiagonal matrix, and its eigenvector as coefficients of the basis. */
interface RitzPair {
  readonly value: number;
  readonly residual: number;
  readonly coefficients: readonly number[];
}

function ritzPairs(alphas: number[], betas: number[], beta: number, { count, eigen }: LanczosOptions): RitzPair[] {
  const steps = alphas.length;
  const matrix = alphas.map((alpha, i) =>
    Array.from({ length: steps }, (_, j) =>
      i === j ? alpha : Math.abs(i - j) === 1 ? (betas[Math.min(i, j)] ?? 0) : 0,
    ),
  );
  const { values, vectors } = eigen(matrix);
  return values
    .map((value, column) => {
      const coefficients = vectors.map((row) => row[column]!);
      return { value, coefficients, residual: Math.abs(beta * coefficients[steps - 1]!) };
    })
    .sort((a, b) => Math.abs(b.value) - Math.abs(a.value))
    .slice(0, count);
}

/** A random vector of norm 1 that is orthogonal to the basis. */
function randomOrthogonal(random: Random, basis: readonly Float32Array[], size: number): Float32Array {
  const vector = Float64Array.from({ length: size }, () => random.normal());
  orthogonalise(vector, basis);
  const length = norm(vector);
  return Float32Array.from(vector, (x) => x / length);
}

/** Subtracts the projections onto the basis from a vector, twice: a single pass leaves rounding errors. */
function orthogonalise(vector: Float64Array, basis: readonly Float32Array[]): void {
  for (let pass = 0; pass < 2; pass++) {
    for (const v of basis) addScaled(vector, -dot(v, vector), v);
  }
}

/** A linear combination of the basis, scaled to norm 1. */
function combine(basis: readonly Float32Array[], coefficients: readonly number[]): Float32Array {
  const sum = new Float64Array(basis[0]?.length ?? 0);
  basis.forEach((vector, i) => addScaled(sum, coefficients[i]!, vector));
  const length = norm(sum);
  return Float32Array.from(sum, (x) => x / length);
}
