import type { Random } from "../base/random";
import type { Shape } from "../base/shape";
import type { PeftConfig } from "../io/peft";
import type { FloatTensor } from "../io/safetensors";
import type { Forward, ForwardHooks } from "../model/forward";
import type { Model, TensorPlace } from "../model/model";
import type { Statistics } from "../ops/shared/statistics";
import type { Value } from "../tape/tape";

/** A tensor that an adapter adds to a model. */
export interface AdapterTensor {
  /** The path of its module and its own name, for example `bert.encoder.layer.0.attention.self.query.lora_A.weight`. */
  readonly name: string;
  readonly shape: Shape;
  /** Where that module acts. Policies freeze and score by it. */
  readonly layer: TensorPlace;
  /** Whether it keeps its initial values: it has no gradient, but is saved with the adapter (VeRA's shared matrices). */
  readonly isFixed?: boolean;
  /** Values before the first step, row-major. */
  initial(random: Random): Float32Array;
  /** Rows of a table of the checkpoint, by default all, as its initial values, times `scale`, instead of those of `initial`. */
  readonly initialRows?: {
    readonly table: string;
    rows?(random: Random): readonly number[];
    readonly scale?: number | undefined;
  };
  /** Initial values that are made from a weight of the checkpoint, instead of those of `initial`. */
  readonly initialFrom?: {
    readonly weight: string;
    /** @param read copies the weight to the host. */
    values(read: () => Promise<FloatTensor>, random: Random): Promise<Float32Array>;
  };
}

/** Tensors by name. */
export type Tensors = ReadonlyMap<string, FloatTensor>;

/** Contents of an adapter's two files. */
export interface AdapterFile {
  /** adapter_config.json. */
  readonly config: PeftConfig;
  /** adapter_model.safetensors, by the file's own keys. */
  readonly tensors: Tensors;
}

/** An update scale * B A of one projection's weight, with A [r, in] and B [out, r]. */
export interface LowRankUpdate {
  readonly a: FloatTensor;
  readonly b: FloatTensor;
  readonly scale: number;
}

/** A run, as an adapter's state reads and changes it between steps. */
export interface AdapterRun {
  readonly model: Model;
  readonly totalSteps: number;
  /** Copies a tensor of the adapter, or a trained one, to the host. */
  read(name: string): Promise<Float32Array>;
  /** Overwrites such a tensor. */
  write(name: string, data: Float32Array): void;
  /** Whether a tensor still learns; a frozen one has no statistics. */
  isLive(name: string): boolean;
  /** Smoothed sensitivity and uncertainty of every element of a live tensor that `statistics` applies to. */
  statistics(name: string): Promise<{ readonly mean: Float32Array; readonly uncertainty: Float32Array }>;
}

/** State of an adapter in one run, for example a budget of ranks. */
export interface AdapterState {
  /** Called after every optimizer step, with the number of steps done. */
  afterStep(step: number): Promise<void>;
  /** Everything that later calls depend on, as plain JSON, for checkpoints. */
  save?(): unknown;
  /** Continues from what `save` returned. @throws FileFormatError for a value that no such adapter saves. */
  restore?(saved: unknown): void;
  /** Contents of the two files, where they depend on this state. Default those of the adapter. */
  toFile?(tensors: Tensors): AdapterFile;
}

/**
 * A method of fine-tuning: which tensors it adds or trains, and how they change the model while it is traced. It holds no
 * memory and has no part in gradients or freezing, which follow from the ops that it records. It is configuration, so that
 * any number of runs may share one: whatever changes during a run is in the state that `start` returns.
 */
export interface Adapter extends ForwardHooks {
  /** Short name for reports, such as `lora`. */
  readonly kind: string;
  /** Tensors that it adds. @throws ConfigError when the model has none of the targets. */
  tensors(model: Model): readonly AdapterTensor[];
  /** Names of tensors of the checkpoint that it trains (a task's head, biases). The trainer works on copies of them. */
  baseTensors?(model: Model): readonly string[];
  /** Whether those are trained without a copy, so that the loaded model changes (full tuning). Default false. */
  readonly trainsInPlace?: boolean;
  /** A term [1] that is added to the loss; undefined for none. */
  penalty?(forward: Forward): Value | undefined;
  /** Bound of the soft threshold that follows each update of a tensor (SoRA); undefined for none. */
  proximal?(name: string): number | undefined;
  /** Statistics of gradients that the state's `afterStep` reads, collected in every step. */
  readonly statistics?: Statistics;
  /** Begins a run. Left out by adapters without a state. */
  start?(run: AdapterRun): AdapterState;
  /**
   * adapter_config.json for PEFT, or for this library alone where PEFT has no such kind.
   * @param totalSteps of the run, for kinds whose configuration says how long it is. Default unknown.
   */
  peftConfig(model: Model, totalSteps?: number): PeftConfig;
  /** Contents of the two files. Default `peftConfig`, and each tensor under PEFT's prefix and its name. */
  toFile?(model: Model, tensors: Tensors): AdapterFile;
  /**
   * The two files of a plain LoRA on the model as it was loaded, for a LoRA whose own file is for another base (PiSSA). Default those
   * of the adapter.
   */
  portableFile?(model: Model, tensors: Tensors): AdapterFile;
  /**
   * The tensors of a file by their names. Default each under its key without PEFT's prefix. A fixed tensor that is not among them and has
   * `initialFrom` is made from the model.
   * @param where names the file in errors.
   */
  fromFile?(stored: Tensors, model: Model, where: string): Tensors;
  /** Low-rank updates by projection, for merging and for export as plain LoRA; left out where it is not a sum of these. */
  updates?(model: Model, tensors: Tensors): ReadonlyMap<string, LowRankUpdate>;
  /** A parameter of the checkpoint with the adapter merged into it, for adapters that have no low-rank updates. */
  merged?(model: Model, tensors: Tensors, name: string, value: FloatTensor): FloatTensor;
}
