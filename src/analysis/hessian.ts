import { ConfigError } from "../base/errors";
import type { Batch } from "../data/batch";
import { lanczos } from "./lanczos";
import type { SymmetricEigen } from "./lanczos";
import { LossSurface } from "./loss-surface";
import type { Moved } from "./loss-surface";
import type { AnalysisControl, Subject } from "./subject";
import { addScaled, norm } from "./vector";

/** A gradient at a point, both [n]. */
export type GradientAt = (at: Float32Array) => Promise<ArrayLike<number>>;

/**
 * For gradients in f32. On a golden case three times as much is twice as exact (`npm run bench:hessian`), but after training
 * the loss bends so much that the steps' own error is what counts.
 */
export const DEFAULT_EPSILON = 3e-4;

/**
 * The product of the Hessian with a vector, by central differences of gradients: (g(w + h v) - g(w - h v)) / 2h with
 * h = epsilon (1 + ||w||) / ||v||. The error is h^2 / 6 times the third derivative along v, and the gradient's rounding
 * over h.
 */
export function hessianProduct(
  gradient: GradientAt,
  at: Float32Array,
  epsilon: number = DEFAULT_EPSILON,
): (v: ArrayLike<number>) => Promise<Float64Array> {
  const scale = epsilon * (1 + norm(at));
  return async (v) => {
    const h = scale / norm(v);
    const moved = (sign: number): Float32Array => at.map((w, i) => w + sign * h * v[i]!);
    const product = Float64Array.from(await gradient(moved(1)));
    addScaled(product, -1, await gradient(moved(-1)));
    return product.map((difference) => difference / (2 * h));
  };
}

export interface HessianOptions extends AnalysisControl {
  /** The loss is the mean over the labels of all of them, without dropout. */
  readonly batches: Iterable<Batch>;
  /** Eigenvalues wanted: those of largest magnitude. Default 5. */
  readonly count?: number;
  /** What the Hessian is over. Default "adapter": all trained tensors but the task's head, frozen or not. */
  readonly over?: Moved;
  /** Step of the differences, relative to 1 + ||w||. Default 3e-4. */
  readonly epsilon?: number;
  /** Most Hessian-vector products of Lanczos' method. Default 60. */
  readonly maxSteps?: number;
  /** Enough once Lanczos' residuals are below this share of the largest eigenvalue. Default 1e-4. */
  readonly tolerance?: number;
  /** Seed of the first vector. Default 0. */
  readonly seed?: number;
}

/** One eigenvalue, and what is known of its error. */
export interface HessianEigenvalue {
  readonly value: number;
  /**
   * ||H v - value v|| with H v taken anew with half the step: no further from an eigenvalue of that Hessian, and so the
   * measure of everything that went wrong at once: convergence, rounding, and the step.
   */
  readonly residual: number;
}

export interface HessianSpectrum {
  /** By falling magnitude. */
  readonly eigenvalues: readonly HessianEigenvalue[];
  /** Numbers that the Hessian is over. */
  readonly parameters: number;
  /** Products of Lanczos' method, and gradients in all. */
  readonly steps: number;
  readonly gradients: number;
  readonly epsilon: number;
  /** How far the differences were from a symmetric matrix, relative to the largest eigenvalue. */
  readonly asymmetry: number;
}

/**
 * The largest eigenvalues of the loss's Hessian over an adapter's tensors: SAFE's figure 7b. Lanczos' method on central
 * differences of gradients (a tape is differentiated once). Takes two gradients of all batches a step.
 * @throws ConfigError for options that make no sense or tensors that are missing, DataError without batches.
 */
export async function hessianEigenvalues(subject: Subject, options: HessianOptions): Promise<HessianSpectrum> {
  const { batches, over = "adapter" } = options;
  checkOptions(options);
  using surface = await LossSurface.open(subject, { batches, over, differentiable: true });
  return await spectrumOf(async (at) => (await surface.gradient(at)).gradient, surface.origin, options);
}

/** The same of any gradient function at a point [n]. */
export async function spectrumOf(
  gradientAt: GradientAt,
  at: Float32Array,
  { onProgress, signal, ...options }: Omit<HessianOptions, "batches" | "over">,
): Promise<HessianSpectrum> {
  const { count = 5, epsilon = DEFAULT_EPSILON, maxSteps = 60, tolerance = 1e-4, seed = 0 } = options;
  let gradients = 0;
  const gradient: GradientAt = (point) => {
    signal?.throwIfAborted();
    gradients++;
    return gradientAt(point);
  };
  const size = at.length;
  const most = Math.min(maxSteps, size) + Math.min(count, size);
  const { pairs, steps, asymmetry } = await lanczos(hessianProduct(gradient, at, epsilon), {
    size,
    count: Math.min(count, size),
    maxSteps,
    tolerance,
    seed,
    eigen: await symmetricEigen(),
    onStep: (step) => onProgress?.(step, most),
  });
  const checked = hessianProduct(gradient, at, epsilon / 2);
  const eigenvalues: HessianEigenvalue[] = [];
  for (const { value, vector } of pairs) {
    const difference = await checked(vector);
    addScaled(difference, -value, vector);
    eigenvalues.push({ value, residual: norm(difference) });
    onProgress?.(most - pairs.length + eigenvalues.length, most);
  }
  return { eigenvalues, parameters: size, steps, gradients, epsilon, asymmetry };
}

/** ml-matrix's decomposition, loaded when it is first needed. */
async function symmetricEigen(): Promise<SymmetricEigen> {
  const { EigenvalueDecomposition } = await import("ml-matrix");
  return (matrix) => {
    const { realEigenvalues, eigenvectorMatrix } = new EigenvalueDecomposition(matrix, { assumeSymmetric: true });
    return { values: realEigenvalues, vectors: eigenvectorMatrix.to2DArray() };
  };
}

function checkOptions({ count = 5, epsilon = DEFAULT_EPSILON, maxSteps = 60, tolerance = 1e-4 }: HessianOptions): void {
  const isCount = [count, maxSteps].every((value) => Number.isInteger(value) && value >= 1);
  if (isCount && maxSteps >= count && epsilon > 0 && epsilon < 1 && tolerance > 0) return;
  throw new ConfigError(
    `hessianEigenvalues: count ${count}, maxSteps ${maxSteps}, epsilon ${epsilon}, tolerance ${tolerance} make no sense.`,
    "Give a count from 1, as many steps at least, and an epsilon and a tolerance above 0.",
  );
}
