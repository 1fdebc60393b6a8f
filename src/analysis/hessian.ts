import { ConfigError } from "../base/errors";
import type { Batch } from "../data/batch";
import { lanczos } from "./lanczos";
import type { SymmetricEigen } from "./lanczos";
import { LossSurface } from "./loss-surface";
import type { LossVariables } from "./loss-surface";
import type { AnalysisControl, Subject } from "./subject";
import { addScaled, norm } from "./vector";

/** Computes the gradient at a point; both are [n]. */
export type GradientAt = (at: Float32Array) => Promise<ArrayLike<number>>;

/**
 * Step of the finite differences for gradients in f32. A golden case is twice as accurate with three times this step
 * (`npm run bench:hessian`), but after training the loss has larger third derivatives, whose error grows with the step.
 */
export const DEFAULT_EPSILON = 3e-4;

/**
 * The product of the Hessian with a vector, by central differences of the gradient g: (g(w + h v) - g(w - h v)) / 2h with
 * h = epsilon (1 + ||w||) / ||v||. Its error is h^2 / 6 times the third derivative along v, plus the rounding error of the
 * gradient divided by h.
 */
export function hessianProduct(
  gradient: GradientAt,
  at: Float32Array,
  epsilon: number = DEFAULT_EPSILON,
): (v: ArrayLike<number>) => Promise<Float64Array> {
  const scale = epsilon * (1 + norm(at));
  return async (v) => {
    const h = scale / norm(v);
    const shifted = (sign: number): Float32Array => at.map((w, i) => w + sign * h * v[i]!);
    const product = Float64Array.from(await gradient(shifted(1)));
    addScaled(product, -1, await gradient(shifted(-1)));
    return product.map((difference) => difference / (2 * h));
  };
}

export interface HessianOptions extends AnalysisControl {
  /** Batches that define the loss: its mean over all their labels, without dropout. */
  readonly batches: Iterable<Batch>;
  /** Number of eigenvalues to compute: those of largest magnitude. Default 5. */
  readonly count?: number;
  /** Tensors that the Hessian differentiates by. Default "adapter". */
  readonly over?: LossVariables;
  /** Step of the finite differences, relative to 1 + ||w||. Default 3e-4. */
  readonly epsilon?: number;
  /** Most Hessian-vector products of Lanczos' method. Default 60. */
  readonly maxSteps?: number;
  /** Stops once the residuals of Lanczos' method are below this share of the largest eigenvalue. Default 1e-4. */
  readonly tolerance?: number;
  /** Seed of the first vector. Default 0. */
  readonly seed?: number;
}

/** An eigenvalue, and a bound of its error. */
export interface HessianEigenvalue {
  readonly value: number;
  /**
   * ||H v - value v||, with H v computed again with half the step. An eigenvalue of H is at most this far away, so that the
   * residual measures the errors of convergence, rounding and step together.
   */
  readonly residual: number;
}

/** The largest eigenvalues of a Hessian. */
export interface HessianSpectrum {
  /** By decreasing magnitude. */
  readonly eigenvalues: readonly HessianEigenvalue[];
  /** Parameters that the Hessian differentiates by. */
  readonly parameters: number;
  /** Hessian-vector products of Lanczos' method. */
  readonly steps: number;
  /** Gradients that were computed. */
  readonly gradients: number;
  readonly epsilon: number;
  /** Deviation of the finite differences from a symmetric matrix, relative to the largest eigenvalue. */
  readonly asymmetry: number;
}

/**
 * The largest eigenvalues of the Hessian of the loss (SAFE, figure 7b), by Lanczos' method on central differences of
 * gradients. A Hessian-vector product takes two gradients of all batches.
 * @throws ConfigError for wrong options or missing tensors, DataError without batches.
 */
export async function hessianEigenvalues(subject: Subject, options: HessianOptions): Promise<HessianSpectrum> {
  const { batches, over = "adapter" } = options;
  checkOptions(options);
  using surface = await LossSurface.open(subject, { batches, over, differentiable: true });
  return await spectrumOf(async (at) => (await surface.gradient(at)).gradient, surface.origin, options);
}

/** The largest eigenvalues of the Hessian of a function that is given by its gradient, at a point [n]. */
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
  const total = Math.min(maxSteps, size) + Math.min(count, size);
  const { pairs, steps, asymmetry } = await lanczos(hessianProduct(gradient, at, epsilon), {
    size,
    count: Math.min(count, size),
    maxSteps,
    tolerance,
    seed,
    eigen: await symmetricEigen(),
    onStep: (step) => onProgress?.(step, total),
  });
  const checkProduct = hessianProduct(gradient, at, epsilon / 2);
  const eigenvalues: HessianEigenvalue[] = [];
  for (const { value, vector } of pairs) {
    const difference = await checkProduct(vector);
    addScaled(difference, -value, vector);
    eigenvalues.push({ value, residual: norm(difference) });
    onProgress?.(total - pairs.length + eigenvalues.length, total);
  }
  return { eigenvalues, parameters: size, steps, gradients, epsilon, asymmetry };
}

/** The decomposition of the library ml-matrix, which is loaded when an analysis needs it. */
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
    `hessianEigenvalues: count ${count}, maxSteps ${maxSteps}, epsilon ${epsilon}, tolerance ${tolerance} is not allowed.`,
    "Give whole numbers 1 <= count <= maxSteps, an epsilon between 0 and 1, and a tolerance above 0.",
  );
}
