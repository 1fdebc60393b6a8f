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

/** What an adapter may see and change after a step. */
export interface AdapterRun {
  readonly model: Model;
  /** Optimizer steps done, and of the whole run. */
  readonly step: number;
  readonly totalSteps: number;
  read(name: string): Promise<Float32Array>;
  write(name: string, data: Float32Array): void;
  /** Whether a tensor still learns; a frozen one has no statistics. */
  isLive(name: string): boolean;
  /** Smoothed sensitivity and uncertainty of a tensor that `statistics` follows. */
  statistics(name: string): Promise<{ readonly mean: Float32Array; readonly uncertainty: Float32Array }>;
}

/**
 * A way to fine-tune: which tensors it adds or trains, and how they change the model while it is traced. It holds no
 * memory and knows nothing of gradients or freezing; those follow from what it records.
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
  /** Statistics of gradients that `afterStep` needs. */
  readonly statistics?: Statistics;
  /** Called after every optimizer step: budgets, masks. */
  afterStep?(run: AdapterRun): Promise<void>;
  /** What `afterStep` has found and goes on from, plain JSON; left out where that is nothing. */
  save?(): unknown;
  /** Goes on where `save` was called. @throws FileFormatError for what no such adapter saves. */
  restore?(saved: unknown): void;
  /** adapter_config.json for PEFT, or for this library alone where PEFT has no such kind. */
  peftConfig(model: Model): PeftConfig;
  /** The two files' contents, where keys are not PEFT's prefix and the tensor's name. */
  toFile?(model: Model, tensors: Tensors): AdapterFile;
  /** Tensors by name, out of a file's keys, where they are not that. */
  fromFile?(stored: Tensors): Tensors;
  /** Low-rank updates by projection, where that is what it amounts to: for merging, and for export as plain LoRA. */
  updates?(model: Model, tensors: Tensors): ReadonlyMap<string, LowRankUpdate>;
  /** A checkpoint's parameter as it is with the adapter merged in, where it is not a low-rank update. */
  merged?(model: Model, tensors: Tensors, name: string, value: FloatTensor): FloatTensor;
}
