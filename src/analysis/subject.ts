import type { Adapter } from "../adapter/adapter";
import { ConfigError } from "../base/errors";
import type { Shape } from "../base/shape";
import type { LoadedModel } from "../io/load-model";
import type { Loss, Objective } from "../train/options";
import type { Trainer } from "../train/trainer";

/** Tensors by name: shapes, and values in row-major order. */
export type NamedTensors = ReadonlyMap<string, { readonly shape: Shape; readonly data: Float32Array }>;

/** A fine-tuned model to analyse. Analyses work on copies of its tensors. */
export interface Subject {
  readonly model: LoadedModel;
  readonly adapter: Adapter;
  /** All trained tensors and those of the adapter, as `subjectOf(trainer)` and `loadAdapter` return them. */
  readonly tensors: NamedTensors;
  /** Label smoothing of the loss. Default 0. */
  readonly labelSmoothing?: number;
  /** A loss of one's own. Default: the task's. */
  readonly loss?: Loss | Objective | undefined;
}

/** Progress and cancellation of an analysis. */
export interface AnalysisControl {
  /** Called after every part of the work. */
  readonly onProgress?: (done: number, total: number) => void;
  /** Aborting the signal makes the analysis free its memory and throw the signal's reason. */
  readonly signal?: AbortSignal;
}

/**
 * The current state of a trainer, as a fine-tuned model to analyse.
 * @throws ConfigError while LoRAs are merged into the model's weights, because they would count twice.
 */
export async function subjectOf(trainer: Trainer): Promise<Subject> {
  const { model, adapter, labelSmoothing = 0, loss } = trainer.options;
  if (trainer.merging && trainer.merging.originals.size > 0) {
    throw new ConfigError("LoRAs of this run are merged into the model's weights.", "Call trainer.unmerge() first.");
  }
  return { model, adapter, labelSmoothing, loss, tensors: await trainer.state.snapshot() };
}
