import type { Random } from "../base/random";
import type { Shape } from "../base/shape";
import type { PeftConfig } from "../io/peft";
import type { FloatTensor } from "../io/safetensors";
import type { Forward, ForwardHooks } from "../model/forward";
import type { Model } from "../model/model";
import type { Statistics } from "../ops/shared/statistics";
import type { Value } from "../tape/tape";

/** A tensor that an adapter adds to a model. */
export interface AdapterTensor {
  /** The module it belongs to and its own name: `bert.encoder.layer.0.attention.self.query.lora_A.weight`. */
  readonly name: string;
  readonly shape: Shape;
  /** Transformer layer of that module, from 0; undefined outside the layers. Policies freeze and score by it. */
  readonly layer: number | undefined;
  /** Stays as it was made: it has no gradient, but is saved with the adapter (VeRA's shared matrices). */
  readonly isFixed?: boolean;
  /** Values before the first step, row-major. */
  initial(random: Random): Float32Array;
  /** Rows of a table of the checkpoint that it begins with, in place of `initial`. */
  readonly initialRows?: { readonly table: string; rows(random: Random): readonly number[] };
}

/** Tensors by name. */
export type Tensors = ReadonlyMap<string, FloatTensor>;

/** An adapter as its two files hold it. */
export interface AdapterFile {
  readonly config: PeftConfig;
  /** By the file's own keys. */
  readonly tensors: Tensors;
}

/** An update scale * B A of one projection's weight: A [r, in], B [out, r]. */
export interface LowRankUpdate {
  readonly a: FloatTensor;
  readonly b: FloatTensor;
  readonly scale: number;
}

/** A run as an adapter that counts sees and changes it between steps. */
export interface AdapterRun {
  readonly model: Model;
  readonly totalSteps: number;
  read(name: string): Promise<Float32Array>;
  write(name: string, data: Float32Array): void;
  /** Whether a tensor still learns; a frozen one has no statistics. */
  isLive(name: string): boolean;
  /** Smoothed sensitivity and uncertainty of every element of a live tensor that `statistics` applies to. */
  statistics(name: string): Promise<{ readonly mean: Float32Array; readonly uncertainty: Float32Array }>;
}

/** State of an adapter in one run, where it has any: budgets, masks. */
export interface AdapterState {
  /** Called after every optimizer step, with the number of steps done. */
  afterStep(step: number): Promise<void>;
  /** Everything that later calls depend on, as plain JSON, for checkpoints. */
  save?(): unknown;
  /** Continues from what `save` returned. @throws FileFormatError for a value that no such adapter saves. */
  restore?(saved: unknown): void;
  /** The two files' contents, where they depend on this state; default those of the adapter. */
  toFile?(tensors: Tensors): AdapterFile;
}

/**
 * A way to fine-tune: which tensors it adds or trains, and how they change the model while it is traced. It holds no
 * memory and knows nothing of gradients or freezing; those follow from what it records. It is configuration: what it counts
 * in a run belongs to the state that `start` returns, so that any number of runs may share one adapter.
 */
export interface Adapter extends ForwardHooks {
  /** Short name for reports, as `lora`. */
  readonly kind: string;
  /** Tensors that it adds. @throws ConfigError when the model has no module that it targets. */
  tensors(model: Model): readonly AdapterTensor[];
  /** Tensors of the checkpoint that it trains as well (a task's head, biases); the trainer works on copies of them. */
  baseTensors?(model: Model): readonly string[];
  /** Trains the checkpoint's own tensors without copying them: the loaded model changes (full tuning). */
  readonly trainsInPlace?: boolean;
  /** A term that is added to the loss: [1]. */
  penalty?(forward: Forward): Value | undefined;
  /** Bound of the soft threshold that follows each update of a tensor (SoRA); undefined for none. */
  proximal?(name: string): number | undefined;
  /** Statistics of gradients that the state's `afterStep` reads, collected in every step. */
  readonly statistics?: Statistics;
  /** Begins a run; left out by an adapter that has nothing to do between steps. */
  start?(run: AdapterRun): AdapterState;
  /**
   * adapter_config.json for PEFT, or for this library alone where PEFT has no such kind.
   * @param totalSteps of the run, for kinds whose configuration says how long it is. Default unknown.
   */
  peftConfig(model: Model, totalSteps?: number): PeftConfig;
  /** The two files' contents, where keys are not PEFT's prefix and the tensor's name. */
  toFile?(model: Model, tensors: Tensors): AdapterFile;
  /** Tensors by name, out of a file's keys, where they are not that. */
  fromFile?(stored: Tensors): Tensors;
  /** Low-rank updates by projection, where that is what it amounts to: for merging, and for export as plain LoRA. */
  updates?(model: Model, tensors: Tensors): ReadonlyMap<string, LowRankUpdate>;
  /** A checkpoint's parameter as it is with the adapter merged in, where it is not a low-rank update. */
  merged?(model: Model, tensors: Tensors, name: string, value: FloatTensor): FloatTensor;
}
