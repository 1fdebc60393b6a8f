import type { Adapter } from "../adapter/adapter";
import type { ByteCount } from "../base/bytes";
import { ConfigError } from "../base/errors";
import type { Batch } from "../data/batch";
import type { FreezePolicy } from "../freeze/policy";
import type { Directory } from "../io/directory";
import type { LoadedModel } from "../io/load-model";
import type { ActivationFormat } from "../op/pack";
import type { OnNotFinite } from "./loop/skipped-steps";
import type { OptimizerOptions } from "./plans/optimizer-plan";
import type { PrefixCacheOptions } from "./step/prefix/cache";
import type { Recompute } from "./plans/recompute";
import type { RecoverOptions } from "./checkpoint/recovery";
import type { CheckpointExtra } from "./checkpoint/record";
import type { ScheduleOptions } from "./loop/learning-rate";

/** Where batches come from; `Batches` is one. */
export interface BatchSource {
  /** Batches of an epoch. */
  readonly perEpoch: number;
  /** The next batch; epochs follow each other without end. A step's batches are asked for while the one before runs. */
  next(): Batch;
  /** Where it is, plain JSON; without it, a resumed run asks for as many batches as were had, and drops them. */
  save?(): unknown;
  /** Goes on where `save` was called. */
  resume?(saved: unknown): void;
  /** Shapes that batches may have, so that all is planned before the first step. */
  shapes?(): readonly { readonly size: number; readonly length: number }[];
}

export interface TrainerOptions {
  readonly model: LoadedModel;
  readonly adapter: Adapter;
  readonly data: BatchSource;
  /** How long: epochs, or optimizer steps. Default 3 epochs. */
  readonly epochs?: number;
  readonly steps?: number;
  /** Batches that make one optimizer step. Default 1. */
  readonly accumulate?: number;
  /**
   * Rows of a batch that run at once; larger batches are split and their gradients summed, so that losses change by
   * rounding only. "fit": as many as `memoryBudget` allows, chosen again after every freeze; what is run again is then, by
   * default, as little as fits. Default: whole batches.
   */
  readonly microBatch?: number | "fit";
  readonly optimizer?: OptimizerOptions;
  readonly schedule?: ScheduleOptions;
  /** As in torch.nn.CrossEntropyLoss. Default 0. */
  readonly labelSmoothing?: number;
  /** Whether the dropouts of the model and the adapter act. Default true. */
  readonly dropout?: boolean;
  /** Default: nothing is frozen. */
  readonly policy?: FreezePolicy;
  /** Batch on which a policy's scores are computed; default the first batch of the data. */
  readonly probe?: Batch;
  /** Values of trainable tensors to begin with, as `loadAdapter` gives them; default the adapter's own. */
  readonly initial?: ReadonlyMap<string, { readonly data: Float32Array }>;
  /** What a step computes twice rather than keep. Default "none", or `memoryBudget` where `microBatch` is "fit". */
  readonly recompute?: Recompute;
  /** How activations are kept from forward to backward. Default f32. */
  readonly activations?: ActivationFormat;
  /** Most bytes of GPU memory that the run may use, as "8GB"; checked against the plan before anything is allocated. */
  readonly memoryBudget?: ByteCount;
  /**
   * Keeps, on the host, what enters the lowest layer that still changes, so that from then on steps begin there: neither the
   * forward nor the backward pass runs below it. True for its defaults. Needs `dropout: false`, or a model and an adapter
   * without dropout, and batches with `ids`.
   */
  readonly prefixCache?: boolean | PrefixCacheOptions;
  /**
   * Adds a LoRA whose tensors are all frozen to its weight (f32, f16 or bf16), so that its products need not run: the same
   * up to rounding, but LoRA's own dropout acts no more there. The model's loaded weights change until `trainer.unmerge()` or
   * the trainer's end; their values wait on the host. What is saved is exact. Default false.
   */
  readonly mergeOnFreeze?: boolean;
  /**
   * What happens to a step whose loss or gradients are not finite. It is never applied: weights, moments and the count of
   * steps stay. "stop": NotFiniteError. "skip": the run goes on with the next batches, reports what it passed over
   * (`skipped`), and gives up after ten in a row. Default "stop".
   */
  readonly onNotFinite?: OnNotFinite;
  /** Where the run saves itself, so that it can be resumed to the very bits. Default: it does not. */
  readonly checkpoints?: Directory;
  /** Steps between checkpoints; 0 for only those of `saveCheckpoint`. Default 100. */
  readonly checkpointEvery?: number;
  /** Checkpoints that stay. Default 2. */
  readonly keepCheckpoints?: number;
  /**
   * Goes on from the latest whole checkpoint of a directory; "auto": from that of `checkpoints`, or anew where there is
   * none. Everything else must be as it was. Default: anew, refused where `checkpoints` has some already.
   */
  readonly resume?: Directory | "auto";
  /** What is to be kept in checkpoints beside the run; a resumed trainer has it as `resumed.extra`. */
  readonly checkpointExtra?: () => CheckpointExtra;
  /**
   * Goes on after the loss of the device: another one is opened, the model loaded again, and what followed the last state
   * in the host's memory run once more, to the same bits; after three losses without a finished step the run stops. Needs
   * an engine of `createEngine` and a model of `loadModel` or `initialiseModel`. Default true.
   */
  readonly recover?: boolean | RecoverOptions;
  /** Is told what goes on in spite of a fault. Default `console.warn`. */
  readonly warn?: (message: string) => void;
  /** Seed of initial values and dropout. Default 0. */
  readonly seed?: number;
}

/** Optimizer steps of a run. @throws ConfigError for lengths that make no sense. */
export function countSteps(options: TrainerOptions): { totalSteps: number; stepsPerEpoch: number; accumulate: number } {
  const { accumulate = 1, epochs = 3 } = options;
  const stepsPerEpoch = Math.ceil(options.data.perEpoch / accumulate);
  const totalSteps = options.steps ?? Math.round(epochs * stepsPerEpoch);
  for (const [name, value] of Object.entries({ accumulate, steps: totalSteps })) {
    if (!Number.isInteger(value) || value < 1) {
      throw new ConfigError(`The trainer has ${name} ${value}.`, "Give a whole number from 1.");
    }
  }
  return { totalSteps, stepsPerEpoch, accumulate };
}
