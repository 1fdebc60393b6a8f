import { Batches } from "../data/batches";
import { LABEL_KINDS } from "../data/batch";
import type { Batch } from "../data/batch";
import type { Preprocessor } from "../data/preprocessor";
import type { Sample } from "../data/sample";
import type { Tokenizer } from "../data/tokenizer";
import type { Continuation } from "../generate/options";
import type { Model } from "../model/model";
import type { SeeLogits } from "../train/evaluate";
import type { BatchSource } from "../train/options";

/** A data set to be judged by, in order. */
export type DevSet = (size: number) => Iterable<Batch>;

/** Batches to learn from and to be judged by. */
export interface TaskData {
  /** The training set, in another order for every seed. */
  train(size: number, seed: number): BatchSource;
  /** The dev set; undefined where there is none. */
  readonly dev: DevSet | undefined;
  /** Further dev sets, by what their metrics' names end in. */
  readonly more?: Readonly<Record<string, DevSet>>;
  /** Examples that lost tokens, and those that are left out since they lost their answer. */
  readonly truncated: number;
  readonly dropped?: number;
  /** What more than predictions and labels a task is judged by: sees the dev set's logits, then gives metrics. */
  judge?(): { readonly see: SeeLogits; metrics(): Record<string, number> };
  /** Texts that the model is to write, where a task is one of writing. */
  readonly writing?: Writing;
}

/** Prompts of the dev set, and how their continuations are judged. */
export interface Writing {
  readonly prompts: readonly Int32Array[];
  readonly judge: (written: readonly Continuation[]) => Promise<Record<string, number>>;
}

export interface TaskOptions {
  readonly path: string;
  readonly model: Model;
  readonly maxLength: number;
  /** The model's own; asked for by tasks of texts. */
  readonly tokenizer: () => Promise<Tokenizer>;
  /** The model's own; asked for by tasks of images. */
  readonly preprocessor: () => Promise<Preprocessor>;
}

/** Batches of samples in the form that the model's loss wants. */
export function textData(model: Model, train: readonly Sample[], dev: readonly Sample[]): TaskData {
  return {
    train: (size, seed) => new Batches(train, { ...kindOf(model), size, seed }),
    dev: dev.length > 0 ? devSet(model, dev) : undefined,
    truncated: 0,
  };
}

/** Samples as a set to be judged by. */
export function devSet(model: Model, samples: readonly Sample[]): DevSet {
  return (size) => new Batches(samples, { ...kindOf(model), size, shuffle: false }).restOfEpoch();
}

const kindOf = (model: Model) => ({ padId: model.padId, labels: LABEL_KINDS[model.task] });
