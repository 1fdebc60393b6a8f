import type { Adapter } from "../adapter/adapter";
import type { ByteCount } from "../base/bytes";
import type { Batch } from "../data/batch";
import type { Policy } from "../freeze/policy";
import type { DirectoryLike } from "../io/directory-like";
import type { LoadedModel } from "../io/load-model";
import type { HostTensor } from "../io/safetensors";
import type { Forward } from "../model/forward";
import type { BatchSize, LanguageModelOutput, Model } from "../model/model";
import type { ActivationFormat } from "../op/pack";
import type { OptimizerOptions } from "../optimizer/adamw";
import type { Optimizer } from "../optimizer/optimizer";
import type { Value } from "../tape/tape";
import type { World } from "./world";

/** Where a trainer's batches come from. `Batches` and `ImageBatches` are batch sources. */
export interface BatchSource {
  /** Batches in one epoch. */
  readonly perEpoch: number;
  /** The next batch. Epochs follow each other without end. The trainer asks one step ahead. */
  next(): Batch;
  /**
   * The current position as plain JSON. Without it, a resumed run draws and discards as many batches as the interrupted
   * run had used.
   */
  save?(): unknown;
  /** Continues from a position that `save` returned. */
  resume?(saved: unknown): void;
  /** The shapes that batches can have, so that all of them are planned before the first step. */
  shapes?(): readonly BatchSize[];
}

export type { OptimizerOptions } from "../optimizer/adamw";

/** What a loss of one's own reads of a batch, as values of the tape. A value that it does not read costs nothing. */
export interface LossBatch extends BatchSize {
  /**
   * Classes, i32, of the logits' shape without its last axis, and -100 where nothing is predicted; of a language model, those of the next
   * tokens. Positions [size, 2] for question answering, f32 [size] for regression.
   */
  readonly labels: Value;
  /** f32 of the labels' shape: 1 / (labels that count in the step) for each label that counts, 0 for others and for padding. */
  readonly weights: Value;
  /** f32 [1]: 1 / (labels that count in the step). */
  readonly normalizer: Value;
}

/**
 * Records a loss of one's own, one f32 number. The sum of the labels' losses times `weights` is their mean over the whole step, in
 * however many parts it runs. Checkpoints know it by its name.
 * @param forward the forward pass, for tensors and dropout.
 * @param logits [size, classes], or [size, tokens, classes] for tasks on tokens.
 */
export type Loss = (forward: Forward, logits: Value, batch: LossBatch) => Value;

/** What an objective reads of a forward pass. */
export interface ObjectivePass {
  /** As a `Loss` gets them. A pass that reads them has all of them in memory. */
  readonly logits: Value;
  /** What the logits of a language model are made of, where its last projection does not learn; undefined otherwise. */
  readonly output: LanguageModelOutput | undefined;
  /** Whether the loss is differentiated. */
  readonly differentiable: boolean;
}

/**
 * A loss that is no mean over labels, such as `dpo` of `safetape/preference`: it says itself what counts in a step, and what its
 * trace reads of a batch.
 */
export interface Objective {
  readonly name: string;
  /** What checkpoints know it by, in addition to its name. Plain JSON. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** Consecutive rows that belong together. A batch is cut between such groups alone. */
  readonly rowsTogether: number;
  /** @throws ConfigError for a run that it does not fit. Called before anything is planned. */
  check(run: { readonly model: Model; readonly adapter: Adapter; readonly memory?: MemoryOptions | undefined }): void;
  /**
   * Number of what its mean over a step is taken of.
   * @param virtualTokens number of tokens that the adapter puts before each row; undefined for none.
   * @throws DataError for a batch of another kind.
   */
  count(batch: Batch, virtualTokens?: number): number;
  /** Values of the inputs that its trace has beside the model's. @param normalizer 1 / what counts in the step. */
  inputs(batch: Batch, normalizer: number, virtualTokens?: number): Readonly<Record<string, Float32Array | Int32Array>>;
  /** Records the loss [1], and what `Trainer.evaluate` shows in place of logits. */
  record(forward: Forward, pass: ObjectivePass): { readonly loss: Value; readonly logits: Value };
}

/** The factor of every learning rate at a step, from 0, of so many in all. It must depend on these alone. Checkpoints know it by its name. */
export type Schedule = (step: number, totalSteps: number) => number;

/** The learning rate over the steps of a run. */
export type ScheduleOptions = WarmupSchedule | ThreeRateSchedule;

/** A rise from 0 to the optimizer's learning rate, and then the course of `type`. */
export interface WarmupSchedule extends WarmupOptions {
  /** The course after warm-up. `linear` falls to 0, which is Hugging Face's default. Default `linear`. */
  readonly type?: "constant" | "linear" | "cosine";
}

/** Three learning rates, and straight lines between them: from `initial` up to `peak`, then to `final` at the run's end. */
export interface ThreeRateSchedule extends WarmupOptions {
  readonly type: "three_rate";
  readonly initial: number;
  /** Takes the place of the optimizer's `learningRate`. */
  readonly peak: number;
  readonly final: number;
}

export interface WarmupOptions {
  /** Steps over which the learning rate rises. Default 0. */
  readonly warmupSteps?: number;
  /** Share of all steps, rounded up, over which the learning rate rises. Ignored where `warmupSteps` is given. */
  readonly warmupRatio?: number;
}

/**
 * What a step computes twice instead of keeping: nothing, every layer's feed-forward ("mlp"), whole layers ("layers"), or
 * as little as makes the run fit into a number of bytes of GPU memory.
 */
export type Recompute = "none" | "mlp" | "layers" | number;

/** Storage for the rows of a prefix cache, each under its own key. */
export interface PrefixStore {
  /** Bytes that the rows take. */
  readonly bytes: number;
  get(key: string): Promise<Uint8Array | undefined>;
  set(key: string, row: Uint8Array): Promise<void>;
  has(key: string): boolean;
  /** Removes all rows. */
  clear(): Promise<void>;
  /** Releases everything. No other method is called afterwards. */
  dispose(): void;
}

export interface PrefixCacheOptions {
  /** Most bytes that rows may take, for example "4GB". Default 2GB. */
  readonly bytes?: ByteCount;
  /** f32 keeps values exactly; f16 takes half the bytes. Default f32. */
  readonly format?: "f32" | "f16";
  /**
   * Stores a row separately for every batch shape in which it occurs. Kernels are chosen by shape and may round
   * differently, so only this gives the same bits as a run without the cache. Where lengths vary, a row then recurs in the
   * same shape less often. Default: true for f32, false for f16.
   */
  readonly exact?: boolean;
  /** Where rows are stored; the trainer disposes it. Default: host memory. Node also has `filePrefixStore`. */
  readonly store?: PrefixStore;
}

/** What happens to a step whose loss or gradients are not finite. Such a step is never applied. */
export type OnNotFinite = "stop" | "skip";

export interface RecoverOptions {
  /** Steps between copies of the state to host memory. After a device loss, the steps since then are repeated. Default 50. */
  readonly every?: number;
}

/** A program's own data in a run's checkpoints. */
export interface CheckpointExtra {
  /** Plain JSON. */
  readonly record?: unknown;
  readonly tensors?: ReadonlyMap<string, HostTensor>;
}

/** GPU memory of a run. */
export interface MemoryOptions {
  /**
   * The memory budget: most bytes of GPU memory that the run may use, weights included, for example "8GB". A run that needs
   * more is refused before anything is allocated. Default: none.
   */
  readonly budget?: ByteCount;
  /**
   * Rows of a batch that run at the same time. Larger batches are split and their gradients summed, which changes losses by
   * rounding only. "fit" takes as many as the budget allows and chooses again after every freeze; recomputation then
   * defaults to as little as fits. Default: complete batches.
   */
  readonly microBatch?: number | "fit";
  /** What a step computes twice instead of keeping. Default "none"; with `microBatch: "fit"`, the budget. */
  readonly recompute?: Recompute;
  /** How activations are stored between forward and backward pass. Default f32. */
  readonly activations?: ActivationFormat;
}

/** Checkpoints of a run, from which it resumes to the same bits. */
export interface CheckpointOptions {
  /** Where they are saved. Default: only where `trainer.saveCheckpoint(directory)` says. */
  readonly directory?: DirectoryLike;
  /** Steps between them; 0 for none but those of `saveCheckpoint`. Default 100. */
  readonly every?: number;
  /** Number of them to keep. Default 2. */
  readonly keep?: number;
  /**
   * Continues from the latest intact checkpoint of a directory. True takes `directory`, and begins a new run where it has
   * none. All other options must be those of the interrupted run. Default: a new run, refused where `directory` has
   * checkpoints already.
   */
  readonly resume?: boolean | DirectoryLike;
  /** Data of the program to keep in every checkpoint; a resumed trainer returns it as `resumed.extra`. */
  readonly extra?: () => CheckpointExtra;
}

export interface TrainerOptions {
  readonly model: LoadedModel;
  readonly adapter: Adapter;
  readonly data: BatchSource;
  /** Length of the run in epochs. Default 3. Ignored where `steps` is given. */
  readonly epochs?: number;
  /** Length of the run in optimizer steps. */
  readonly steps?: number;
  /** Batches per optimizer step. The last step of an epoch has what is left. Default 1. */
  readonly accumulate?: number;
  /** An optimizer, such as `sgd({ learningRate: 0.1 })`, or options of AdamW. Default AdamW. */
  readonly optimizer?: Optimizer | OptimizerOptions;
  readonly schedule?: ScheduleOptions | Schedule;
  /** Takes the place of the task's loss, in evaluation too. A function has a language model's logits complete in memory. */
  readonly loss?: Loss | Objective | undefined;
  /** As in torch.nn.CrossEntropyLoss. Default 0. */
  readonly labelSmoothing?: number;
  /** Whether the dropout of the model and of the adapter is active. Default true. */
  readonly dropout?: boolean;
  /** Default: nothing is frozen. */
  readonly policy?: Policy;
  /**
   * Batch on which a policy's importance of layers is computed, or several, which together count as more rows at the memory of
   * the largest one: CKA is then minibatch CKA (Nguyen et al. 2021, eq. 3), in which each batch is centred by its own
   * means. Default: the first batch of the data.
   */
  readonly probe?: Batch | readonly Batch[];
  /** Initial values of trainable tensors, as `loadAdapter` returns them. Default: the adapter's own. */
  readonly initial?: ReadonlyMap<string, { readonly data: Float32Array }>;
  /** How much GPU memory the run may use, and what it does to use less. Nothing of it changes what is learned but by rounding. */
  readonly memory?: MemoryOptions;
  /**
   * Keeps the input of the lowest layer that still changes in host memory, so that later steps begin there and neither the
   * forward nor the backward pass runs below it. Needs `dropout: false` (or a model and an adapter without dropout) and
   * batches with `ids`. True takes the defaults. Default false.
   */
  readonly prefixCache?: boolean | PrefixCacheOptions;
  /**
   * Adds a LoRA whose tensors are all frozen to its weight (f32, f16 or bf16), or puts what another adapter of weights (DoRA, LoHa, LoKr, OFT) makes
   * of the weight in its place, so that their products no longer run. Results differ by rounding, and the adapter's own dropout no
   * longer acts there. The loaded model's weights change until `trainer.unmerge()` or the end of the trainer; their original values wait
   * in host memory. Saved files are exact. Default false.
   */
  readonly mergeOnFreeze?: boolean;
  /**
   * What happens to a step whose loss or gradients are not finite. Weights, moments and the step count stay as they were.
   * "stop" throws NotFiniteError. "skip" continues with the next batches, lists the skipped steps in the report, and gives
   * up after ten in a row. Default "stop".
   */
  readonly onNotFinite?: OnNotFinite;
  /** Where and how often the run saves checkpoints, and whether it resumes from one. Default: it does neither. */
  readonly checkpoints?: CheckpointOptions;
  /**
   * The run in which this device takes part with others, from `join` of `safetape/distributed`: they share the rows of each
   * step, and all have the same tensors after it. Default: this device trains alone.
   */
  readonly distributed?: World;
  /**
   * Continues after the loss of the device: opens another one, loads the model again and repeats the steps since the last
   * copy of the state in host memory, to the same bits. Three losses without a finished step stop the run. Needs an engine
   * of `createEngine` and a model of `loadModel` or `initialiseModel`. Default true; false where several devices share the run.
   */
  readonly recover?: boolean | RecoverOptions;
  /** Receives warnings about faults that do not stop the run. Default `console.warn`. */
  readonly warn?: (message: string) => void;
  /** Seed of initial values and dropout. Default 0. */
  readonly seed?: number;
}
