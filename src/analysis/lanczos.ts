import { Random } from "../base/random";
import { addScaled, dot, norm } from "./vector";

/** Eigenvalues of a real symmetric matrix, and its orthonormal eigenvectors as columns. */
export type SymmetricEigen = (matrix: number[][]) => {
  readonly values: readonly number[];
  readonly vectors: readonly (readonly number[])[];
};

export interface LanczosOptions {
  /** Rows of the matrix. */
  readonly size: number;
  /** Eigenvalues wanted: those of largest magnitude. */
  readonly count: number;
  /** Most products. */
  readonly maxSteps: number;
  /** Enough once every wanted eigenvalue's residual is below this share of the largest magnitude. */
  readonly tolerance: number;
  /** Seed of the first vector. */
  readonly seed: number;
  /** Solves the small tridiagonal problem. */
  readonly eigen: SymmetricEigen;
  readonly onStep?: (step: number) => void;
}

/** An eigenpair that Lanczos found. */
export interface EigenPair {
  readonly value: number;
  /** ||A v - value v||, by Lanczos' own recurrence. */
  readonly residual: number;
  /** Of length 1. */
  readonly vector: Float32Array;
}

export interface LanczosResult {
  /** By falling magnitude. */
  readonly pairs: readonly EigenPair[];
  /** Products that were computed. */
  readonly steps: number;
  /** Largest |a_i . A a_j| that a symmetric A would have made 0, over the largest magnitude: how symmetric A was. */
  readonly asymmetry: number;
}

/** A vector this much shorter than the largest eigenvalue is rounding. */
const BREAKDOWN = 1e-9;

/**
 * Eigenvalues of largest magnitude of a symmetric matrix that is known by its products alone: Lanczos' method with full
 * reorthogonalisation (Golub and Van Loan, section 10.3). Where the vectors span an invariant subspace it begins again
 * beside it. The basis is kept in f32: 4 bytes x size x steps on the host. A multiple eigenvalue may be found once only.
 */
export async function lanczos(
  apply: (v: Float32Array) => Promise<ArrayLike<number>>,
  options: LanczosOptions,
): Promise<LanczosResult> {
  const random = new Random(options.seed);
  const most = Math.min(options.maxSteps, options.size);
  const basis: Float32Array[] = [];
  const [alphas, betas]: [number[], number[]] = [[], []];
  let next = fresh(random, basis, options.size);
  let [ritz, skew]: [Ritz[], number] = [[], 0];
  while (basis.length < most) {
    basis.push(next);
    const w = Float64Array.from(await apply(next));
    const projections = basis.map((v) => dot(v, w));
    // Beyond the last two vectors, a symmetric matrix leaves nothing to project.
    skew = projections.slice(0, -2).reduce((worst, value) => Math.max(worst, Math.abs(value)), skew);
    alphas.push(projections.at(-1)!);
    orthogonalise(w, basis);
    const beta = norm(w);
    ritz = ritzValues(alphas, betas, beta, options);
    options.onStep?.(basis.length);
    const largest = Math.abs(ritz[0]?.value ?? 0);
    if (ritz.length === options.count && ritz.every(({ residual }) => residual <= options.tolerance * largest)) break;
    const isInvariant = beta <= BREAKDOWN * Math.max(largest, Number.MIN_VALUE);
    betas.push(isInvariant ? 0 : beta);
    if (basis.length < most)
      next = isInvariant ? fresh(random, basis, options.size) : Float32Array.from(w, (x) => x / beta);
  }
  const largest = Math.abs(ritz[0]?.value ?? 0);
  return {
    pairs: ritz.map(({ value, residual, weights }) => ({ value, residual, vector: combine(basis, weights) })),
    steps: basis.length,
    asymmetry: largest > 0 ? skew / largest : 0,
  };
}

/** An eigenpair of the tridiagonal matrix: its vector in terms of the basis. */
interface Ritz {
  readonly value: number;
  readonly residual: number;
  readonly weights: readonly number[];
}

function ritzValues(alphas: number[], betas: number[], beta: number, { count, eigen }: LanczosOptions): Ritz[] {
  const steps = alphas.length;
  const matrix = alphas.map((alpha, i) =>
    Array.from({ length: steps }, (_, j) =>
      i === j ? alpha : Math.abs(i - j) === 1 ? (betas[Math.min(i, j)] ?? 0) : 0,
    ),
  );
  const { values, vectors } = eigen(matrix);
  return values
    .map((value, column) => {
      const weights = vectors.map((row) => row[column]!);
      return { value, weights, residual: Math.abs(beta * weights[steps - 1]!) };
    })
    .sort((a, b) => Math.abs(b.value) - Math.abs(a.value))
    .slice(0, count);
}

/** A random vector of length 1 at right angles to the basis. */
function fresh(random: Random, basis: readonly Float32Array[], size: number): Float32Array {
  const vector = Float64Array.from({ length: size }, () => random.normal());
  orthogonalise(vector, basis);
  const length = norm(vector);
  return Float32Array.from(vector, (x) => x / length);
}

/** Takes the basis out of a vector, twice, since once leaves what rounding put there. */
function orthogonalise(vector: Float64Array, basis: readonly Float32Array[]): void {
  for (let pass = 0; pass < 2; pass++) {
    for (const v of basis) addScaled(vector, -dot(v, vector), v);
  }
}

function combine(basis: readonly Float32Array[], weights: readonly number[]): Float32Array {
  const sum = new Float64Array(basis[0]?.length ?? 0);
  basis.forEach((vector, i) => addScaled(sum, weights[i]!, vector));
  const length = norm(sum);
  return Float32Array.from(sum, (x) => x / length);
}
