import { stat } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { LABEL_KINDS } from "../data/batch";
import { Batches } from "../data/batches";
import { GLUE_TASKS, isGlueTask } from "../data/glue-tasks";
import { readGlue } from "../data/glue";
import { readBlocks } from "../data/lines";
import { accuracy, f1, matthews, pearson, perplexity, spearman } from "../data/metrics";
import { blockSamples, encodeExamples } from "../data/sample";
import type { Sample } from "../data/sample";
import type { Tokenizer } from "../data/tokenizer";
import type { Model } from "../model/model";
import { openDirectory } from "../node/directory";
import type { Evaluation } from "../train/evaluate";
import { UsageError } from "./options";

/** Samples to learn from and to be judged by. */
export interface TaskData {
  readonly train: readonly Sample[];
  readonly dev: readonly Sample[];
  readonly truncated: number;
}

/** Labels that a task needs of the model's head; undefined where the head is the model's own. */
export function taskLabels(task: string): number | undefined {
  return isGlueTask(task) ? (GLUE_TASKS[task].labels?.length ?? 1) : undefined;
}

/** Reads a GLUE task's TSV files, or text for a language model. @throws UsageError for an unknown task. */
export async function readTask(
  task: string,
  path: string,
  tokenizer: Tokenizer,
  model: Model,
  maxLength: number,
): Promise<TaskData> {
  if (task === "lm") return readText(path, tokenizer, maxLength);
  if (!isGlueTask(task)) {
    throw new UsageError(`--task is ${task}.`, `It may be ${Object.keys(GLUE_TASKS).join(", ")} or lm.`);
  }
  const folder = await openDirectory(path);
  const read = async (file: string) => {
    const { examples } = await readGlue(folder, file, task);
    const classes = model.task === "regression" ? {} : { classes: model.classes };
    return encodeExamples(examples, tokenizer, { maxLength, vocabularySize: model.vocabularySize, ...classes });
  };
  const [train, dev] = [await read("train.tsv"), await read(task === "mnli" ? "dev_matched.tsv" : "dev.tsv")];
  return { train: train.samples, dev: dev.samples, truncated: train.truncated + dev.truncated };
}

async function readText(path: string, tokenizer: Tokenizer, length: number): Promise<TaskData> {
  const isFile = (await stat(path).catch(() => undefined))?.isFile() ?? false;
  const folder = await openDirectory(isFile ? dirname(path) : path);
  const blocks = async (file: string) => blockSamples(await readBlocks(folder, file, tokenizer, { length }));
  const train = await blocks(isFile ? basename(path) : "train.txt");
  const hasDev = !isFile && (await folder.size("dev.txt")) !== undefined;
  return { train, dev: hasDev ? await blocks("dev.txt") : [], truncated: 0 };
}

/** Batches of samples in the form that the model's loss wants. */
export function batchesOf(
  samples: readonly Sample[],
  model: Model,
  size: number,
  seed: number,
  shuffle = true,
): Batches {
  return new Batches(samples, { size, seed, shuffle, padId: model.padId, labels: LABEL_KINDS[model.task] });
}

const METRICS = { accuracy, f1, matthews, pearson, spearman };

/** The task's metrics of an evaluation, by name. */
export function metricsOf(task: string, { predictions, labels, loss, count }: Evaluation): Record<string, number> {
  if (!isGlueTask(task)) return { loss, perplexity: perplexity(loss * count, count) };
  const named = GLUE_TASKS[task].metrics.map((name) => [name, METRICS[name](predictions, labels)] as const);
  return { loss, ...Object.fromEntries(named) };
}
