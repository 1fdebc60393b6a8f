import { readFile, stat } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { DataError, FileFormatError } from "../../base/errors";
import { Batches } from "../../data/batches";
import type { Shuffle } from "../../data/batches";
import { bucketLength, LABEL_KINDS } from "../../data/batch";
import type { Batch } from "../../data/batch";
import { loadChatTemplate } from "../../data/chat-template";
import type { ChatTemplate } from "../../data/chat-template";
import { groupByLength, packSamples } from "../../data/packing";
import { readPreprocessor } from "../../data/preprocessor";
import type { Preprocessor } from "../../data/preprocessor";
import type { Sample } from "../../data/sample";
import type { TokenDecoder } from "../../data/text-pieces";
import type { TaggedOptions, TaggedSampleOptions } from "../../data/tagged-words";
import { loadTokenizer } from "../../data/tokenizer";
import type { Tokenizer } from "../../data/tokenizer";
import type { WordNet } from "../../data/wordnet";
import type { Continuation } from "../../generate/options";
import type { Directory } from "../../io/directory";
import type { LoadedModel } from "../../io/load-model";
import type { Model } from "../../model/model";
import { openDirectory } from "../../node/directory";
import type { Evaluation, SeeLogits } from "../../train/evaluate";
import type { DpoOptions } from "../../preference/dpo";
import type { ReferenceOptions } from "../../preference/reference";
import type { BatchSource, Loss, Objective } from "../../train/options";
import { weightedTokens } from "../../train/plans/weighted-tokens";
import { UsageError } from "../options";
import { publishedSplit } from "./published-split";
import type { Split } from "./published-split";
import { GZIP, unzipped } from "./unzipped";

/** A data set for evaluation: its batches of `rows`, in order. */
export type DevSet = (rows: number) => Iterable<Batch>;

/** Metrics that need more than predictions and labels. */
export interface Scorer {
  /** Receives the logits, where they are needed. */
  readonly see?: SeeLogits;
  metrics(evaluation: Evaluation): Record<string, number>;
}

/** A further data set for evaluation. */
export interface ScoredSet {
  readonly batches: DevSet;
  readonly scorer?: () => Scorer;
}

/** The data of a task. */
export interface TaskData {
  /** The loss of its batches; undefined for the model's own. */
  readonly objective?: Objective;
  /** Computes what batches need of the model as it is loaded. Must be called before batches are made, and where weights have other formats. */
  readonly prepare?: (loaded: LoadedModel, options: ReferenceOptions) => Promise<void>;
  /** Batches of the training set, in an order that depends on the seed. */
  train(rows: number, seed: number): BatchSource;
  /** The dev set; undefined if there is none. */
  readonly dev: DevSet | undefined;
  /** Further dev sets, by the suffix of their metrics' names. */
  readonly moreDevSets?: Readonly<Record<string, ScoredSet>>;
  /** Names of the classes, by label; undefined for tasks without classes. */
  readonly labelNames?: readonly string[] | undefined;
  /** Examples that were cut to the longest row. */
  readonly truncated: number;
  /** Examples that were left out because cutting them removed their answer. */
  readonly dropped?: number;
  /** What packing made of the training set. */
  readonly packed?: PackedRows;
  /** Scorer of the dev set. Default: its predictions are scored. */
  readonly scorer?: () => Scorer;
  /** Texts to generate, for tasks of generation. */
  readonly generation?: GenerationData;
}

/** Texts in rows that hold several. */
export interface PackedRows {
  readonly texts: number;
  readonly rows: number;
  /** Share of the rows' tokens that are not padding. */
  readonly filled: number;
}

/** Prompts of the dev set, and the metrics of their continuations. */
export interface GenerationData {
  readonly prompts: readonly Int32Array[];
  readonly score: (continuations: readonly Continuation[]) => Record<string, number>;
  /** Ids of the tokens that end a text. */
  readonly endIds: readonly number[];
  /** Decodes tokens, where a model's texts end with `stop_strings` of generation_config.json. */
  readonly tokenizer?: TokenDecoder;
}

/**
 * What a data set is evaluated on: its only examples for that ("dev"), or those of one of its two files where it has a test
 * file beside the dev set.
 */
export type EvaluationPart = "dev" | "validation" | "test";

/**
 * Chooses some of the examples of a part of the data.
 * @param labelOf the class of an example, for tasks with classes.
 */
export type ChooseExamples = <T>(
  part: "train" | EvaluationPart,
  examples: readonly T[],
  labelOf?: (example: T) => unknown,
) => readonly T[];

export interface TaskOptions {
  /** The loss of pairs of answers. */
  readonly dpo?: DpoOptions | undefined;
  /** Label smoothing of the loss of tokens with weights. Default 0. */
  readonly labelSmoothing?: number | undefined;
  readonly choose: ChooseExamples;
  readonly path: string;
  readonly model: Model;
  /** Longest row in tokens. */
  readonly maxLength: number;
  /** Loads the model's tokenizer, for tasks of texts. */
  readonly tokenizer: () => Promise<Tokenizer>;
  /** Loads the template by which chats are written; undefined for plain roles, which are the default. */
  readonly chatTemplate?: () => Promise<ChatTemplate | undefined>;
  /** Whether each answer of a chat is a row of its own. Default false. */
  readonly eachAnswer?: boolean;
  /** Loads the model's preprocessor, for tasks of images. */
  readonly preprocessor: () => Promise<Preprocessor>;
  /**
   * Whether only the dev set is read, which then may also be the file at `path`: for evaluation on another corpus than the one
   * trained on.
   */
  readonly evaluateOnly?: boolean;
  /** Which file takes the place of the dev set in data with a test file of their own. Default "validation": the dev set's. */
  readonly evaluateOn?: "validation" | "test";
  /** Default: the data are split as their files are. */
  readonly split?: Split | undefined;
  /** Whether rows hold several texts. Default false. */
  readonly packing?: boolean;
  /** How the training set is ordered further. Default at random alone. */
  readonly shuffle?: Shuffle | undefined;
  /** The classes that labels are counted in. Default: those of the data set. */
  readonly labelNames?: readonly string[] | undefined;
  /** How sentences with a tag for each word are read. */
  readonly tagging?: Tagging;
  /** Synonyms for METEOR. Default: METEOR is the variant without synonyms. */
  readonly wordNet?: WordNet | undefined;
}

/** The same, where all examples are taken unless others are chosen. */
export type ReadOptions = Omit<TaskOptions, "choose"> & Partial<Pick<TaskOptions, "choose">>;

/** How sentences with a tag for each word are read: see `TaggedOptions` and `TaggedSampleOptions`. */
export type Tagging = TaggedOptions & Pick<TaggedSampleOptions, "tooLong">;

/**
 * Loaders of the tokenizer, the chat template and the preprocessor in a model's directory.
 * @param chatTemplate path of another chat template, or "none".
 */
export function preprocessing(
  modelPath: string,
  chatTemplate?: string,
): Pick<TaskOptions, "tokenizer" | "chatTemplate" | "preprocessor"> {
  return {
    chatTemplate: () => readChatTemplate(modelPath, chatTemplate),
    tokenizer: async () => loadTokenizer(await openDirectory(modelPath)),
    preprocessor: async () => readPreprocessor(await openDirectory(modelPath)),
  };
}

/** The chat template of a model, or of a file. @param path of that file, or "none". */
export async function readChatTemplate(modelPath: string, path?: string): Promise<ChatTemplate | undefined> {
  if (path === "none") return undefined;
  const directory = await openDirectory(modelPath);
  if (path === undefined) return loadChatTemplate(directory);
  const source = await readFile(path, "utf8").catch(() => {
    throw new FileFormatError(`No file ${path}.`, "Give a Jinja template, or none for plain roles.");
  });
  return loadChatTemplate(directory, { source, where: path });
}

/** The files of a task. */
export interface TaskFiles {
  readonly folder: Directory;
  /** Undefined if only the dev set is read. */
  readonly train: string | undefined;
  /** The file to evaluate on; undefined if there is none. */
  readonly dev: string | undefined;
  /** What that file is. */
  readonly part: EvaluationPart;
}

/** Names that the files of a task may have; of each, the first that exists is used. */
export interface TaskFileNames {
  readonly train: readonly string[];
  readonly dev: readonly string[];
  /** Test files with answers. Default none. */
  readonly test?: readonly string[];
}

/**
 * Finds the files of a task in a folder, plain or compressed (.gz). A path of a file is that of the training set, or of the dev set with
 * `evaluateOnly`.
 * @throws DataError for `evaluateOnly` in a folder without a dev set.
 */
export async function taskFiles(
  { path, evaluateOnly = false, evaluateOn = "validation" }: Pick<TaskOptions, "path" | "evaluateOnly" | "evaluateOn">,
  { train: trainNames, dev: devNames, test: testNames = [] }: TaskFileNames,
): Promise<TaskFiles> {
  if ((await stat(path).catch(() => undefined))?.isFile()) {
    const folder = unzipped(await openDirectory(dirname(path)), basename(path));
    const file = basename(path, GZIP);
    return {
      folder,
      part: "dev",
      ...(evaluateOnly ? { train: undefined, dev: file } : { train: file, dev: undefined }),
    };
  }
  const folder = unzipped(await openDirectory(path));
  const names = await folder.list();
  const [train, devFile, testFile] = [trainNames, devNames, testNames].map((candidates) =>
    candidates.find((file) => names.includes(file)),
  );
  const hasOwnTest = devFile !== undefined && testFile !== undefined && testFile !== devFile;
  const dev = hasOwnTest && evaluateOn === "test" ? testFile : devFile;
  const part = hasOwnTest ? evaluateOn : "dev";
  if (!evaluateOnly) return { folder, train: train ?? trainNames[0], dev, part };
  if (dev !== undefined) return { folder, train: undefined, dev, part };
  throw new DataError(`${path} has no data to evaluate on`, `add ${devNames.join(" or ")}, or give the path of a file`);
}

/**
 * The position of each class of a data set in the classes of a model, by name; -1 for one that the model does not have.
 * @param names the data set's classes; undefined if it has none.
 */
export function labelPositions(
  names: readonly string[] | undefined,
  target: readonly string[] | undefined,
): readonly number[] | undefined {
  return target && names?.map((name) => target.indexOf(name));
}

/** The error for a class that a model was not trained on. */
export const unknownClass = (where: string, name: string, target: readonly string[]): DataError =>
  new DataError(
    `${where} has the class ${name}, which the model is not trained on`,
    `its classes are ${target.length > 12 ? `${target.slice(0, 12).join(", ")} and others` : target.join(", ")}`,
  );

/** How samples become rows and batches. */
export type RowOptions = Pick<TaskOptions, "model" | "maxLength" | "packing" | "shuffle" | "split" | "labelSmoothing">;

/**
 * The loss of a run on data sets; undefined for the model's own.
 * @param loss a plugin's. @throws UsageError where the data have a loss of their own as well.
 */
export function objectiveOf(sets: readonly TaskData[], loss?: Loss | Objective): Objective | undefined {
  const objective = sets.find((set) => set.objective)?.objective;
  if (!objective || !loss) return objective;
  throw new UsageError(
    `--loss ${loss.name} is a plugin's, and the data are learnt by ${objective.name}.`,
    objective.name === "dpo" ? "Leave it out." : "Leave it out, or give messages the weights 0 and 1 alone.",
  );
}

/** How rows and batches are filled. @param accumulate batches of a step, whose texts are of similar length together. */
export function fillingOf({
  packing,
  groupByLength: isGrouped,
  accumulate = 1,
}: {
  readonly packing: boolean;
  readonly groupByLength: boolean;
  readonly accumulate?: number;
}): Pick<TaskOptions, "packing" | "shuffle"> {
  const shuffle: Shuffle = (order, samples, size) => groupByLength(order, samples, size * accumulate);
  return { packing, ...(isGrouped && { shuffle }) };
}

/** The data of a task of texts, with labels as the model's loss needs them. */
export function textData(options: RowOptions, allTrain: readonly Sample[], allDev: readonly Sample[]): TaskData {
  const { packing, shuffle, split, labelSmoothing = 0 } = options;
  const { train, validation, test } = publishedSplit(split, allTrain, allDev);
  const rows = rowsOf(options, train);
  const areWeighed = [...allTrain, ...allDev].some(({ weights }) => weights);
  const data = {
    ...(areWeighed && { objective: weightedTokens({ labelSmoothing }) }),
    train: (size: number, seed: number) => new Batches(...rows({ size, seed, ...(shuffle && { shuffle }) })),
    dev: validation.length > 0 ? devSet(options, validation) : undefined,
    truncated: 0,
    ...(packing && train.length > 0 && { packed: packedRows(train, ...rows({ size: 1 })) }),
  };
  return test.length > 0 ? { ...data, moreDevSets: { test: { batches: devSet(options, test) } } } : data;
}

/** Samples as a data set for evaluation. */
export function devSet(options: RowOptions, samples: readonly Sample[]): DevSet {
  const rows = rowsOf(options, samples);
  return (size) => new Batches(...rows({ size, shuffle: false })).restOfEpoch();
}

type BatchArguments = ConstructorParameters<typeof Batches>;

/** Samples as rows, and the options of batches of them. Packed rows all have one length, so that steps have one plan. */
function rowsOf({ model, maxLength: longest, packing }: RowOptions, samples: readonly Sample[]) {
  const rows = packing ? packSamples(samples, longest) : samples;
  const maxLength = bucketLength(
    rows.reduce((most, { ids }) => Math.max(most, ids.length), 1),
    longest,
    8,
  );
  const ofModel = { padId: model.padId, labels: LABEL_KINDS[model.task] };
  return (options: BatchArguments[1]): BatchArguments => {
    return [rows, { ...ofModel, ...(packing && { maxLength, multiple: maxLength }), ...options }];
  };
}

const packedRows = (texts: readonly Sample[], rows: readonly Sample[], { maxLength = 1 }: BatchArguments[1]) => ({
  texts: texts.length,
  rows: rows.length,
  filled: rows.reduce((sum, { ids }) => sum + ids.length, 0) / (rows.length * maxLength),
});

/** The first batches of the training data, on which a policy scores the layers; nothing for the trainer's default. */
export function probeOf(
  data: TaskData,
  {
    batch,
    seed,
    probeBatches,
  }: { readonly batch: number; readonly seed: number; readonly probeBatches: number | undefined },
): { readonly probe?: Batch[] } {
  return probeBatches === undefined ? {} : { probe: firstBatches(data.train(batch, seed), probeBatches) };
}

export const firstBatches = (source: BatchSource, count: number): Batch[] =>
  Array.from({ length: count }, () => source.next());
