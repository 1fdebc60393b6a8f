import { GLUE_TASKS, isGlueTask } from "../data/glue-tasks";
import { accuracy, f1, matthews, pearson, perplexity, spearman } from "../data/metrics";
import type { Batch } from "../data/batch";
import type { GenerateOptions } from "../generate/options";
import type { HeadOptions } from "../model/families";
import { openDirectory } from "../node/directory";
import type { Evaluation } from "../train/evaluate";
import type { Trainer } from "../train/trainer";
import { classNames, readCifarTask, readImages } from "./image-data";
import { UsageError } from "./options";
import type { TaskData, TaskOptions } from "./task-data";
import type { Tick } from "./view/stage";
import { readChatTask, readE2eTask, readGlueTask, readSquadTask, readTextTask } from "./text-data";

/** Tasks that are no GLUE task, and how their data are read. */
const OTHERS: Readonly<Record<string, (options: TaskOptions) => Promise<TaskData>>> = {
  lm: readTextTask,
  squad: readSquadTask,
  e2e: readE2eTask,
  chat: readChatTask,
  cifar10: (options) => readCifar(10, options),
  cifar100: (options) => readCifar(100, options),
  images: async ({ path, model, preprocessor }) => readImages(path, model, await preprocessor()),
};

const readCifar = async (classes: 10 | 100, { path, model, preprocessor }: TaskOptions): Promise<TaskData> =>
  readCifarTask(await openDirectory(path), classes, model, await preprocessor());

/** Every task that `--task` may name. */
export const TASKS: readonly string[] = [...Object.keys(GLUE_TASKS), ...Object.keys(OTHERS)];

const unknownTask = (task: string): UsageError =>
  new UsageError(`--task is ${task}.`, `It may be ${TASKS.join(", ")}.`);

/**
 * The head that a task needs; undefined labels make a regression. `path` is where its data lie.
 * @throws UsageError for an unknown task, DataError for images without class folders.
 */
export async function taskHead(task: string, path: string): Promise<HeadOptions> {
  if (task === "images") return { task: "image_classification", labels: (await classNames(path)).length };
  if (task === "cifar10") return { task: "image_classification", labels: 10 };
  if (task === "cifar100") return { task: "image_classification", labels: 100 };
  if (task === "squad") return { task: "question_answering" };
  if (Object.hasOwn(OTHERS, task)) return { task: "causal_lm" };
  if (!isGlueTask(task)) throw unknownTask(task);
  const labels = GLUE_TASKS[task].labels?.length;
  return labels === undefined ? { task: "regression" } : { task: "sequence_classification", labels };
}

/** Reads a task's files. @throws UsageError for an unknown task. */
export async function readTask(task: string, options: TaskOptions): Promise<TaskData> {
  const read = Object.hasOwn(OTHERS, task) ? OTHERS[task] : undefined;
  if (read) return read(options);
  if (!isGlueTask(task)) throw unknownTask(task);
  return readGlueTask(task, options);
}

const METRICS = { accuracy, f1, matthews, pearson, spearman };

export interface JudgeOptions {
  /** How texts are written where the task is one of writing; left out, none are. */
  readonly writing?: GenerateOptions;
  /** Told of the batches, and then the texts, that are done. */
  readonly tick?: Tick;
}

/** Evaluates a trainer on a task's dev sets: metrics by name, the one to select by first but for the loss. */
export async function judge(
  trainer: Trainer,
  task: string,
  data: TaskData,
  batch: number,
  { writing, tick }: JudgeOptions = {},
): Promise<Record<string, number>> {
  if (!data.dev) return {};
  const own = data.judge?.();
  const evaluation = await trainer.evaluate(counted(data.dev(batch), tick), own?.see);
  const metrics = own ? { ...own.metrics(), loss: evaluation.loss } : metricsOf(task, evaluation);
  for (const [name, dev] of Object.entries(data.more ?? {})) {
    const other = metricsOf(task, await trainer.evaluate(counted(dev(batch), tick)));
    for (const [metric, value] of Object.entries(other)) metrics[`${metric}_${name}`] = value;
  }
  if (!writing || !data.writing) return metrics;
  const { prompts, judge: judgeTexts } = data.writing;
  const written = await trainer.generate(prompts, { ...writing, ...(tick && { onDone: tick }) });
  return { ...(await judgeTexts(written)), ...metrics };
}

/** The batches one after the other; each is done when the next is asked for. */
function* counted(batches: Iterable<Batch>, tick: Tick | undefined): Generator<Batch, void, undefined> {
  const all = [...batches];
  for (const [done, batch] of all.entries()) {
    tick?.(done, all.length);
    yield batch;
  }
  tick?.(all.length, all.length);
}

function metricsOf(task: string, { predictions, labels, loss, count }: Evaluation): Record<string, number> {
  if (isGlueTask(task)) {
    const named = GLUE_TASKS[task].metrics.map((name) => [name, METRICS[name](predictions, labels)] as const);
    return { ...Object.fromEntries(named), loss };
  }
  // A language model's evaluation has no predictions.
  return predictions.length > 0
    ? { accuracy: accuracy(predictions, labels), loss }
    : { perplexity: perplexity(loss * count, count), loss };
}

/** Whether the first of two results is the better one, by their first metric. */
export function isBetter(a: Record<string, number>, b: Record<string, number>): boolean {
  const [name] = Object.keys(a);
  if (name === undefined) return false;
  const [first, second] = [a[name]!, b[name]!];
  return name === "perplexity" || name === "loss" ? first < second : first > second;
}
