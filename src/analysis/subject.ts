import type { Adapter } from "../adapter/adapter";
import { ConfigError } from "../base/errors";
import type { Shape } from "../base/shape";
import type { LoadedModel } from "../io/load-model";
import type { Trainer } from "../train/trainer";

/** Tensors by name, with their shapes, row-major. */
export type NamedTensors = ReadonlyMap<string, { readonly shape: Shape; readonly data: Float32Array }>;

/** A fine-tuned model, as analyses look at it: they work on copies of its tensors. */
export interface Subject {
  readonly model: LoadedModel;
  readonly adapter: Adapter;
  /** The adapter's and all trained tensors, as `subjectOf(trainer)` or `loadAdapter` gives them. */
  readonly tensors: NamedTensors;
  /** As in `TrainerOptions`. Default 0. */
  readonly labelSmoothing?: number;
}

/** What an analysis that takes a while tells, and how it is broken off. */
export interface AnalysisControl {
  /** Called after every part of the work. */
  readonly onProgress?: (done: number, of: number) => void;
  /** Aborting it makes the analysis throw the signal's reason; what it had allocated is returned. */
  readonly signal?: AbortSignal;
}

/**
 * What a trainer has learnt so far.
 * @throws ConfigError where LoRAs are merged into the model's weights: they would count twice.
 */
export async function subjectOf(trainer: Trainer): Promise<Subject> {
  const { model, adapter, labelSmoothing = 0 } = trainer.options;
  if (trainer.merging && trainer.merging.originals.size > 0) {
    throw new ConfigError("LoRAs of this run are merged into the model's weights.", "Call trainer.unmerge() first.");
  }
  return { model, adapter, labelSmoothing, tensors: await trainer.state.snapshot() };
}
