import type { Batch } from "../../data/batch";
import type { Inputs } from "../../run/executor";

/** What the gradients of a step are computed from. */
export interface GradientStep {
  /** Number of the step, from 0. */
  readonly index: number;
  readonly batches: readonly Batch[];
  /** Layers whose adapter is left out. */
  readonly droppedLayers: readonly number[];
  /** For each part of the batches, the input of the layer that the step begins with, where that is not the first. */
  readonly prefixInputs?: readonly Inputs[];
}

/** One optimizer step. */
export interface Step extends GradientStep {
  /** Factor of every learning rate, by the schedule. */
  readonly scheduleFactor: number;
}
