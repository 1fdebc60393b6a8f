import { ConfigError } from "../base/errors";
import type { Batch } from "../data/batch";
import { GLUE_TASKS, isGlueTask } from "../data/glue-tasks";
import { accuracy, f1, matthews, pearson, perplexity, spearman } from "../data/metrics";
import type { GenerateOptions } from "../generate/options";
import type { Task } from "../model/model";
import type { RewardMetrics } from "../preference/rewards";
import type { Evaluation } from "../train/evaluate";
import type { Trainer } from "../train/trainer";
import type { DevSet, ScoredSet, TaskData } from "./tasks/task-data";
import { ADDED } from "./plugin/registries";
import type { Metric } from "./plugin/registries";
import type { OnProgress } from "./view/progress";

/** Metrics by name. The first one selects the best evaluation. */
export type Metrics = Record<string, number>;

const METRICS = { accuracy, f1, matthews, pearson, spearman };

/** Names of the metrics of predictions that come with the package. */
export const METRIC_NAMES: readonly string[] = Object.keys(METRICS);

/** A metric by name, of the package or of a plugin. */
function metricOf(name: string): Metric {
  const shipped = Object.entries(METRICS).find(([known]) => known === name)?.[1];
  const metric = shipped
    ? ({ predictions, labels }: Evaluation) => shipped(predictions, labels)
    : ADDED.metrics.get(name);
  if (metric) return metric;
  throw new ConfigError(`There is no metric ${name}.`, `Give ${[...METRIC_NAMES, ...ADDED.metrics.names].join(", ")}.`);
}

export interface EvaluateOptions {
  /** Beam search's settings. Default: tasks of generation are evaluated without generating texts. */
  readonly generation?: GenerateOptions;
  /** Name of a metric in addition to the task's, which then comes first. */
  readonly metric?: string | undefined;
  /** Called after every batch, and then after every text. */
  readonly onProgress?: OnProgress;
}

/** Evaluates a trainer on the dev sets of a task, in batches of `rows`. */
export async function evaluateTask(
  trainer: Trainer,
  task: string,
  data: TaskData,
  rows: number,
  { generation, metric, onProgress }: EvaluateOptions = {},
): Promise<Metrics> {
  if (!data.dev) return {};
  const evaluateSet = async ({ batches, scorer }: ScoredSet): Promise<Metrics> => {
    const scoring = scorer?.();
    const evaluation = await trainer.evaluate(withProgress(batches(rows), onProgress), scoring?.see);
    const metrics = scoring ? { ...scoring.metrics(evaluation), loss: evaluation.loss } : metricsOf(task, evaluation);
    return metric === undefined ? metrics : { [metric]: valueOfMetric(metric, evaluation), ...metrics };
  };
  const { dev, scorer } = data;
  const metrics = await evaluateSet(scorer ? { batches: dev, scorer } : { batches: dev });
  for (const [name, set] of Object.entries(data.moreDevSets ?? {})) {
    for (const [metric, value] of Object.entries(await evaluateSet(set))) metrics[`${metric}_${name}`] = value;
  }
  if (!generation || !data.generation) return metrics;
  const { prompts, score, endIds, tokenizer } = data.generation;
  const continuations = await trainer.generate(prompts, {
    ...generation,
    ...(endIds.length > 0 && { endIds }),
    ...(tokenizer && { tokenizer }),
    ...(onProgress && { onDone: onProgress }),
  });
  return { ...score(continuations), ...metrics };
}

/** Computes a metric on the first batch of a dev set, so that one that fails does so before the training. Throws as the metric. */
export async function tryMetric(trainer: Trainer, name: string, dev: DevSet, rows: number): Promise<void> {
  const [first] = dev(rows);
  if (first) valueOfMetric(name, await trainer.evaluate([first]));
}

/** @throws ConfigError for a metric that does not exist, or gives no number. */
function valueOfMetric(name: string, evaluation: Evaluation): number {
  const value: unknown = metricOf(name)(evaluation);
  if (typeof value === "number") return value;
  throw new ConfigError(`The metric ${name} gives ${String(value)}.`, "Return a number.");
}

/** Yields the batches; a batch is done when the next one is requested. */
function* withProgress(
  batches: Iterable<Batch>,
  onProgress: OnProgress | undefined,
): Generator<Batch, void, undefined> {
  const all = [...batches];
  for (const [done, batch] of all.entries()) {
    onProgress?.(done, all.length);
    yield batch;
  }
  onProgress?.(all.length, all.length);
}

function metricsOf(task: string, { predictions, labels, loss, count }: Evaluation): Metrics {
  if (isGlueTask(task)) {
    const entries = GLUE_TASKS[task].metrics.map((name) => [name, METRICS[name](predictions, labels)] as const);
    return { ...Object.fromEntries(entries), loss };
  }
  // That of a model that writes texts has no predictions.
  const rightness = predictions.length > 0 && { accuracy: accuracy(predictions, labels) };
  const ofTokens = (!rightness || task === "mlm") && { perplexity: perplexity(loss * count, count) };
  return { ...ofTokens, ...rightness, loss };
}

/** Metrics of pairs of answers. */
const OF_REWARDS: readonly (keyof RewardMetrics)[] = [
  "rewards/accuracies",
  "rewards/margins",
  "rewards/chosen",
  "rewards/rejected",
];

/** Metrics of heads that have their own way of scoring. */
const OF_HEADS: Readonly<Partial<Record<Task, readonly string[]>>> = {
  causal_lm: ["perplexity"],
  masked_lm: ["perplexity", "accuracy"],
  seq2seq: ["perplexity"],
  question_answering: ["exactMatch", "f1"],
  token_classification: ["f1", "precision", "recall", "accuracy"],
};

/** Names of metrics that `evaluateTask` will give for a model with a head: not those of generated texts and single types of tags. */
export function namesOfMetrics(task: string, head: Task, metric: string | undefined): string[] {
  const ofTask = isGlueTask(task) ? GLUE_TASKS[task].metrics : task === "dpo" ? OF_REWARDS : undefined;
  const own = ofTask ?? OF_HEADS[head] ?? ["accuracy"];
  return [...new Set([...(metric === undefined ? [] : [metric]), ...own, "loss"])];
}

/** The first metric, as a number of which less is better. */
export function valueOf(metrics: Metrics): number {
  const [[name, value] = ["", NaN]] = Object.entries(metrics);
  return name === "perplexity" || name === "loss" ? value : -value;
}
