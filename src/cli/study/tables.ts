import { valueOf } from "../evaluation";
import type { Study } from "./file";
import type { RunResult } from "./run";

/** One run of a study. */
export interface StudyRun {
  readonly method: string;
  readonly task: string;
  readonly seed: number;
  readonly result: RunResult;
}

/** Mean and sample standard deviation over seeds; a single seed has no deviation. */
export interface Spread {
  readonly mean: number;
  readonly deviation: number | undefined;
}

/** A method on a task: means over the seeds. */
export interface StudyRow {
  readonly method: string;
  readonly task: string;
  readonly metrics: Readonly<Record<string, Spread>>;
  readonly trainable: number;
  readonly averageTrainable: number;
  readonly frozenShare: number;
  readonly peakBytes: number;
  readonly endBytes: number;
  readonly averageBytes: number;
  readonly flops: number;
  readonly seconds: number;
  /** Seconds relative to those of the baseline on the same task. */
  readonly relativeTime: number;
  /** Epoch, counted from 0, and seconds of the best validation loss; undefined in studies that do not stop early. */
  readonly best: { readonly epoch: number; readonly seconds: number } | undefined;
  /** The first metric by 100,000 trainable parameters, and by minute; undefined for a metric of which less is better. */
  readonly scorePer100000: number | undefined;
  readonly scorePerMinute: number | undefined;
}

/** Score by 100,000 trainable parameters (table 5 of the empirical study of PEFT). */
export const scorePer100000 = (score: number, trainable: number): number => score / (trainable / 100_000);

/** Score by minute until the best validation loss (table 6 of the empirical study of PEFT). */
export const scorePerMinute = (score: number, seconds: number): number => (60 * score) / seconds;

/** By how much full tuning is faster than the mean of other methods, as a share of their time; negative where it is slower. */
export const fullTuningSpeedUp = (fullSeconds: number, others: readonly number[]): number =>
  1 - fullSeconds / meanOf(others);

/** The papers' table: one row for each method and task that has runs. */
export function studyRows(study: Study, runs: readonly StudyRun[]): StudyRow[] {
  const rows = study.tasks.flatMap(({ name: task }) =>
    study.methods.flatMap(({ name: method }) => {
      const results = runs.filter((run) => run.method === method && run.task === task).map(({ result }) => result);
      return results.length > 0 ? [rowOf(method, task, results)] : [];
    }),
  );
  return rows.map((row) => {
    const baseline = rows.find(({ method, task }) => method === study.baseline && task === row.task);
    return { ...row, relativeTime: baseline ? row.seconds / baseline.seconds : NaN };
  });
}

function rowOf(method: string, task: string, results: readonly RunResult[]): Omit<StudyRow, "relativeTime"> {
  const mean = (pick: (result: RunResult) => number): number => meanOf(results.map(pick));
  const names = Object.keys(results[0]?.metrics ?? {});
  const metrics = Object.fromEntries(
    names.map((name) => [name, spreadOf(results.map((result) => result.metrics[name] ?? NaN))]),
  );
  const points = results.flatMap(({ best }) => (best ? [best] : []));
  const best =
    points.length === results.length
      ? { epoch: meanOf(points.map(({ epoch }) => epoch)), seconds: meanOf(points.map(({ seconds }) => seconds)) }
      : undefined;
  const [score] = Object.values(metrics);
  // Where more is better, `valueOf` is the negative score.
  const isScore = score !== undefined && valueOf(results[0]!.metrics) !== results[0]!.metrics[names[0]!];
  const trainable = mean((result) => result.trainable);
  const seconds = mean((result) => result.seconds);
  return {
    method,
    task,
    metrics,
    trainable,
    averageTrainable: mean(({ averageTrainable }) => averageTrainable),
    frozenShare: mean(({ frozenShare }) => frozenShare),
    peakBytes: mean(({ peakBytes }) => peakBytes),
    endBytes: mean(({ endBytes }) => endBytes),
    averageBytes: mean(({ averageBytes }) => averageBytes),
    flops: mean(({ flops }) => flops),
    seconds,
    best,
    scorePer100000: isScore ? scorePer100000(score.mean, trainable) : undefined,
    scorePerMinute: isScore ? scorePerMinute(score.mean, best?.seconds ?? seconds) : undefined,
  };
}

const meanOf = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

function spreadOf(values: readonly number[]): Spread {
  const mean = meanOf(values);
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, deviation: values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : undefined };
}

/** All tables in Markdown. */
export function studyMarkdown(study: Study, rows: readonly StudyRow[]): string {
  const efficiency = ["## Convergence and efficiency", "", efficiencyTable(rows)];
  const speed = speedTable(study, rows);
  const fullTuning = speed === undefined ? [] : ["", "## Full tuning against the other methods", "", speed];
  return [scoreTable(rows), "", ...efficiency, ...fullTuning].join("\n");
}

/** Scores without the loss, memory and computation. */
function scoreTable(rows: readonly StudyRow[]): string {
  const names = [...new Set(rows.flatMap(({ metrics }) => Object.keys(metrics)))].filter((name) => name !== "loss");
  const head = [
    "task",
    "method",
    ...names,
    "trainable parameters (average)",
    "frozen",
    "peak MB",
    "MB at the end",
    "average MB",
    "TFLOP",
    "time",
  ];
  return markdown(
    head,
    rows.map((row) => [
      row.task,
      row.method,
      ...names.map((name) => spreadText(row.metrics[name])),
      `${Math.round(row.trainable)} (${Math.round(row.averageTrainable)})`,
      `${(100 * row.frozenShare).toFixed(0)} %`,
      (row.peakBytes / 1e6).toFixed(2),
      (row.endBytes / 1e6).toFixed(2),
      (row.averageBytes / 1e6).toFixed(2),
      (row.flops / 1e12).toFixed(3),
      row.relativeTime.toFixed(2),
    ]),
  );
}

/** Tables 4, 5 and 6 of the empirical study of PEFT. */
function efficiencyTable(rows: readonly StudyRow[]): string {
  const head = [
    "task",
    "method",
    "best epoch, from 0",
    "seconds until then",
    "seconds",
    "score per 100,000 parameters",
  ];
  return markdown(
    [...head, "score per minute"],
    rows.map(({ task, method, best, seconds, ...row }) => [
      task,
      method,
      best ? best.epoch.toFixed(1) : "",
      best ? best.seconds.toFixed(1) : "",
      seconds.toFixed(1),
      row.scorePer100000?.toPrecision(3) ?? "",
      row.scorePerMinute?.toPrecision(3) ?? "",
    ]),
  );
}

/** Undefined without a method that tunes fully, or without others. */
function speedTable({ tasks, methods }: Study, rows: readonly StudyRow[]): string | undefined {
  const full = methods.find(({ adapter }) => adapter.kind === "full")?.name;
  const lines = tasks.flatMap(({ name }) => {
    const times = rows
      .filter(({ task }) => task === name)
      .map(({ method, best, seconds }) => ({ method, seconds: best?.seconds ?? seconds }));
    const fullTuning = times.find(({ method }) => method === full);
    const others = times.filter(({ method }) => method !== full).map(({ seconds }) => seconds);
    if (!fullTuning || others.length === 0) return [];
    const { seconds } = fullTuning;
    return [[name, seconds.toFixed(1), meanOf(others).toFixed(1), percent(fullTuningSpeedUp(seconds, others))]];
  });
  const head = ["task", "seconds of full tuning", "mean seconds of the others", "time saved by full tuning"];
  return lines.length > 0 ? markdown(head, lines) : undefined;
}

const percent = (share: number): string => `${(100 * share).toFixed(0)} %`;

function markdown(head: readonly string[], lines: readonly (readonly string[])[]): string {
  const line = (values: readonly string[]): string => `| ${values.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...lines.map(line)].join("\n");
}

function spreadText(spread: Spread | undefined): string {
  if (!spread) return "";
  const deviation = spread.deviation === undefined ? "" : ` ± ${spread.deviation.toFixed(4)}`;
  return `${spread.mean.toFixed(4)}${deviation}`;
}
