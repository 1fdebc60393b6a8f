/** What an AdamW step takes beside its tensors. */
export interface AdamwStep {
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** The number of this step, from 1: each tensor's own count, which stands still while it is frozen. */
  readonly step: number;
  /** Largest norm of all gradients together; 0 for no clipping. */
  readonly maxNorm: number;
}

/** Elements of the `hyper` tensor. */
export const ADAMW_HYPER_SIZE = 8;

/** The `hyper` tensor [8] of the op `adamw`; differences from 1 are taken here, in float64. */
export function adamwHyper({ learningRate, beta1, beta2, epsilon, step, maxNorm }: AdamwStep): Float32Array {
  const corrections = [1 - beta1 ** step, 1 - beta2 ** step] as const;
  return Float32Array.of(learningRate, 1 - beta1, beta2, 1 - beta2, epsilon, ...corrections, maxNorm);
}
