import type { SensitivityKind } from "../sensitivity";

/** Statistics to collect at every step: a smoothed sensitivity and its uncertainty for each element of some tensors. */
export interface Statistics {
  readonly kind: SensitivityKind;
  /** Decay of the moving average of the sensitivity. */
  readonly beta1: number;
  /** Decay of the moving average of the uncertainty. */
  readonly beta2: number;
  /** Number of steps over which the sensitivity is averaged before it enters the moving average; default 1. */
  readonly window?: number;
  /** Whether to collect statistics of the tensor with this name. */
  readonly applies: (name: string) => boolean;
  /** Whether they use the weights before or after the update of the step. */
  readonly when: "before_update" | "after_update";
}
