import type { SensitivityKind } from "../sensitivity";

/** Statistics of gradients to follow through every step: a smoothed sensitivity and its uncertainty per element. */
export interface Statistics {
  readonly kind: SensitivityKind;
  /** Share of the past in the sensitivity's mean, and in the uncertainty's. */
  readonly beta1: number;
  readonly beta2: number;
  /** Steps over which a sensitivity is averaged before it is smoothed; default 1, and no averaging. */
  readonly window?: number;
  /** Tensors to follow. */
  applies(name: string): boolean;
  /** Before the update, on gradients as backward made them; or after it, with the new weights. */
  readonly when: "before_update" | "after_update";
}
