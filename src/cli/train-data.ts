import { stat } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { LABEL_KINDS } from "../data/batch";
import type { Batch } from "../data/batch";
import { e2eSamples, readE2e } from "../data/e2e";
import { squadScores } from "../data/metrics-squad";
import { decodeSpans, readSquad, squadFeatures } from "../data/squad";
import type { SpanScores, SquadFeature } from "../data/squad";
import type { Directory } from "../io/directory";
import { conversationSamples, readConversations } from "../data/jsonl";
import { Batches } from "../data/batches";
import { GLUE_TASKS, isGlueTask } from "../data/glue-tasks";
import { readGlue } from "../data/glue";
import { readBlocks } from "../data/lines";
import { accuracy, f1, matthews, pearson, perplexity, spearman } from "../data/metrics";
import { blockSamples, encodeExamples } from "../data/sample";
import type { Sample } from "../data/sample";
import type { Preprocessor } from "../data/preprocessor";
import type { Tokenizer } from "../data/tokenizer";
import type { HeadOptions } from "../model/families";
import type { Model } from "../model/model";
import { openDirectory } from "../node/directory";
import type { Evaluation, SeeLogits } from "../train/evaluate";
import type { Trainer } from "../train/trainer";
import type { BatchSource } from "../train/options";
import { classNames, readCifarTask, readImages } from "./image-data";
import { UsageError } from "./options";

/** Batches to learn from and to be judged by. */
export interface TaskData {
  /** The training set, in another order for every seed. */
  train(size: number, seed: number): BatchSource;
  /** The dev set, in order; undefined where there is none. */
  readonly dev: ((size: number) => Iterable<Batch>) | undefined;
  readonly truncated: number;
  /** What more than predictions and labels a task is judged by: sees the dev set's logits, then gives metrics. */
  judge?(): { readonly see: SeeLogits; metrics(): Record<string, number> };
}

/** Tasks that are no GLUE task. */
const OTHER_TASKS = ["lm", "squad", "e2e", "chat", "cifar10", "cifar100", "images"] as const;
type OtherTask = (typeof OTHER_TASKS)[number];

const isOther = (task: string): task is OtherTask => (OTHER_TASKS as readonly string[]).includes(task);

/** Every task that `--task` may name. */
export const TASKS: readonly string[] = [...Object.keys(GLUE_TASKS), ...OTHER_TASKS];

/**
 * The head that a task needs; undefined labels make a regression. `path` is where its data lie.
 * @throws UsageError for an unknown task.
 */
export async function taskHead(task: string, path: string): Promise<HeadOptions> {
  if (task === "images") return { task: "image_classification", labels: (await classNames(path)).length };
  if (task === "cifar10") return { task: "image_classification", labels: 10 };
  if (task === "cifar100") return { task: "image_classification", labels: 100 };
  if (task === "squad") return { task: "question_answering" };
  if (isOther(task)) return { task: "causal_lm" };
  if (!isGlueTask(task)) throw new UsageError(`--task is ${task}.`, `It may be ${TASKS.join(", ")}.`);
  const labels = GLUE_TASKS[task].labels?.length;
  return labels === undefined ? { task: "regression" } : { task: "sequence_classification", labels };
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

/** Reads a task's files. @throws UsageError for an unknown task. */
export async function readTask(task: string, options: TaskOptions): Promise<TaskData> {
  if (isOther(task)) return readOther(task, options);
  if (!isGlueTask(task)) throw new UsageError(`--task is ${task}.`, `It may be ${TASKS.join(", ")}.`);
  const { model, maxLength } = options;
  const folder = await openDirectory(options.path);
  const tokenizer = await options.tokenizer();
  const read = async (file: string) => {
    const { examples } = await readGlue(folder, file, task);
    const classes = model.task === "regression" ? {} : { classes: model.classes };
    return encodeExamples(examples, tokenizer, { maxLength, vocabularySize: model.vocabularySize, ...classes });
  };
  const [train, dev] = [await read("train.tsv"), await read(task === "mnli" ? "dev_matched.tsv" : "dev.tsv")];
  return { ...textData(model, train.samples, dev.samples), truncated: train.truncated + dev.truncated };
}

/** Files of a task: for training, and for judging where there are any. */
const FILES: Readonly<Record<"squad" | "e2e" | "chat", readonly [string, string]>> = {
  squad: ["train-v1.1.json", "dev-v1.1.json"],
  e2e: ["trainset.csv", "devset.csv"],
  chat: ["train.jsonl", "dev.jsonl"],
};

async function readOther(task: OtherTask, options: TaskOptions): Promise<TaskData> {
  const { path, model, maxLength, tokenizer, preprocessor } = options;
  if (task === "images") return readImages(path, model, await preprocessor());
  if (task === "cifar10" || task === "cifar100") {
    const folder = await openDirectory(path);
    return readCifarTask(folder, task === "cifar10" ? 10 : 100, model, await preprocessor());
  }
  if (task === "lm") return readText(path, await tokenizer(), model, maxLength);
  const folder = await openDirectory(path);
  const [trainFile, devFile] = FILES[task];
  const hasDev = (await folder.size(devFile)) !== undefined;
  const own = await tokenizer();
  if (task === "squad") return readQuestions(folder, hasDev, own, model, maxLength);
  const read = async (file: string): Promise<Sample[]> =>
    task === "e2e"
      ? e2eSamples(await readE2e(folder, file), own, { maxLength })
      : conversationSamples(await readConversations(folder, file), own, { maxLength });
  return textData(model, await read(trainFile), hasDev ? await read(devFile) : []);
}

async function readQuestions(
  folder: Directory,
  hasDev: boolean,
  tokenizer: Tokenizer,
  model: Model,
  maxLength: number,
): Promise<TaskData> {
  const [trainFile, devFile] = FILES.squad;
  const options = { maxLength, stride: Math.min(128, Math.floor(maxLength / 3)) };
  const examples = hasDev ? await readSquad(folder, devFile) : [];
  const features = squadFeatures(examples, tokenizer, options);
  const train = squadFeatures(await readSquad(folder, trainFile), tokenizer, options);
  const samples = (of: readonly SquadFeature[]): Sample[] => of.map(({ sample }) => sample);
  return {
    ...textData(model, samples(train), samples(features)),
    judge() {
      const scores: SpanScores[] = [];
      return {
        see({ rows, length }, logits) {
          const column = (row: number, which: 0 | 1): Float32Array =>
            Float32Array.from({ length }, (_, i) => logits[2 * (row * length + i) + which] as number);
          for (let row = 0; row < rows; row++) scores.push({ start: column(row, 0), end: column(row, 1) });
        },
        metrics: () => ({ ...squadScores(decodeSpans(examples, features, scores), examples) }),
      };
    },
  };
}

async function readText(path: string, tokenizer: Tokenizer, model: Model, length: number): Promise<TaskData> {
  const isFile = (await stat(path).catch(() => undefined))?.isFile() ?? false;
  const folder = await openDirectory(isFile ? dirname(path) : path);
  const blocks = async (file: string) => blockSamples(await readBlocks(folder, file, tokenizer, { length }));
  const train = await blocks(isFile ? basename(path) : "train.txt");
  const hasDev = !isFile && (await folder.size("dev.txt")) !== undefined;
  return textData(model, train, hasDev ? await blocks("dev.txt") : []);
}

/** Batches of samples in the form that the model's loss wants. */
function textData(model: Model, train: readonly Sample[], dev: readonly Sample[]): TaskData {
  const kind = { padId: model.padId, labels: LABEL_KINDS[model.task] };
  return {
    train: (size, seed) => new Batches(train, { ...kind, size, seed }),
    dev: dev.length > 0 ? (size) => new Batches(dev, { ...kind, size, shuffle: false }).restOfEpoch() : undefined,
    truncated: 0,
  };
}

const METRICS = { accuracy, f1, matthews, pearson, spearman };

/** Evaluates a trainer on a task's dev set: metrics by name, the one to select by first but for the loss. */
export async function judge(
  trainer: Trainer,
  task: string,
  data: TaskData,
  batch: number,
): Promise<Record<string, number>> {
  if (!data.dev) return {};
  const own = data.judge?.();
  const evaluation = await trainer.evaluate(data.dev(batch), own?.see);
  return own ? { ...own.metrics(), loss: evaluation.loss } : metricsOf(task, evaluation);
}

function metricsOf(task: string, { predictions, labels, loss, count }: Evaluation): Record<string, number> {
  if (task.startsWith("cifar") || task === "images") return { accuracy: accuracy(predictions, labels), loss };
  if (!isGlueTask(task)) return { perplexity: perplexity(loss * count, count), loss };
  const named = GLUE_TASKS[task].metrics.map((name) => [name, METRICS[name](predictions, labels)] as const);
  return { ...Object.fromEntries(named), loss };
}

/** Whether the first of two results is the better one, by their first metric. */
export function isBetter(a: Record<string, number>, b: Record<string, number>): boolean {
  const [name] = Object.keys(a);
  if (name === undefined) return false;
  const [first, second] = [a[name] as number, b[name] as number];
  return name === "perplexity" || name === "loss" ? first < second : first > second;
}
