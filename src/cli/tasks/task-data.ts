import { Batches } from "../../data/batches";
import { LABEL_KINDS } from "../../data/batch";
import type { Batch } from "../../data/batch";
import { readPreprocessor } from "../../data/preprocessor";
import type { Preprocessor } from "../../data/preprocessor";
import type { Sample } from "../../data/sample";
import { loadTokenizer } from "../../data/tokenizer";
import type { Tokenizer } from "../../data/tokenizer";
import type { WordNet } from "../../data/wordnet";
import type { Continuation } from "../../generate/options";
import type { Model } from "../../model/model";
import { openDirectory } from "../../node/directory";
import type { SeeLogits } from "../../train/evaluate";
import type { BatchSource } from "../../train/options";

/** A data set for evaluation: its batches of `rows`, in order. */
export type DevSet = (rows: number) => Iterable<Batch>;

/** The data of a task. */
export interface TaskData {
  /** Batches of the training set, in an order that depends on the seed. */
  train(rows: number, seed: number): BatchSource;
  /** The dev set; undefined if there is none. */
  readonly dev: DevSet | undefined;
  /** Further dev sets, by the suffix of their metrics' names. */
  readonly moreDevSets?: Readonly<Record<string, DevSet>>;
  /** Examples that were cut to the longest row. */
  readonly truncated: number;
  /** Examples that were left out because cutting them removed their answer. */
  readonly dropped?: number;
  /** Metrics that need the logits of the dev set instead of its predictions. */
  scorer?(): { readonly see: SeeLogits; metrics(): Record<string, number> };
  /** Texts to generate, for tasks of generation. */
  readonly generation?: GenerationData;
}

/** Prompts of the dev set, and the metrics of their continuations. */
export interface GenerationData {
  readonly prompts: readonly Int32Array[];
  readonly score: (continuations: readonly Continuation[]) => Record<string, number>;
}

export interface TaskOptions {
  readonly path: string;
  readonly model: Model;
  /** Longest row in tokens. */
  readonly maxLength: number;
  /** Loads the model's tokenizer, for tasks of texts. */
  readonly tokenizer: () => Promise<Tokenizer>;
  /** Loads the model's preprocessor, for tasks of images. */
  readonly preprocessor: () => Promise<Preprocessor>;
  /** Synonyms for METEOR. Default: METEOR is the variant without synonyms. */
  readonly wordNet?: WordNet | undefined;
}

/** Loaders of the tokenizer and the preprocessor in a model's directory. */
export function preprocessing(modelPath: string): Pick<TaskOptions, "tokenizer" | "preprocessor"> {
  return {
    tokenizer: async () => loadTokenizer(await openDirectory(modelPath)),
    preprocessor: async () => readPreprocessor(await openDirectory(modelPath)),
  };
}

/** The data of a task of texts, with labels as the model's loss needs them. */
export function textData(model: Model, train: readonly Sample[], dev: readonly Sample[]): TaskData {
  return {
    train: (size, seed) => new Batches(train, { ...batchOptions(model), size, seed }),
    dev: dev.length > 0 ? devSet(model, dev) : undefined,
    truncated: 0,
  };
}

/** Samples as a data set for evaluation. */
export function devSet(model: Model, samples: readonly Sample[]): DevSet {
  return (size) => new Batches(samples, { ...batchOptions(model), size, shuffle: false }).restOfEpoch();
}

const batchOptions = (model: Model) => ({ padId: model.padId, labels: LABEL_KINDS[model.task] });
