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
}

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
  const meanOf = (pick: (result: RunResult) => number): number => spreadOf(results.map(pick)).mean;
  const names = Object.keys(results[0]?.metrics ?? {});
  return {
    method,
    task,
    metrics: Object.fromEntries(
      names.map((name) => [name, spreadOf(results.map(({ metrics }) => metrics[name] ?? NaN))]),
    ),
    trainable: meanOf(({ trainable }) => trainable),
    averageTrainable: meanOf(({ averageTrainable }) => averageTrainable),
    frozenShare: meanOf(({ frozenShare }) => frozenShare),
    peakBytes: meanOf(({ peakBytes }) => peakBytes),
    endBytes: meanOf(({ endBytes }) => endBytes),
    averageBytes: meanOf(({ averageBytes }) => averageBytes),
    flops: meanOf(({ flops }) => flops),
    seconds: meanOf(({ seconds }) => seconds),
  };
}

function spreadOf(values: readonly number[]): Spread {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, deviation: values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : undefined };
}

/** The table in Markdown, without the loss. */
export function studyMarkdown(rows: readonly StudyRow[]): string {
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
  const cells = rows.map((row) => [
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
  ]);
  const line = (values: readonly string[]): string => `| ${values.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...cells.map(line)].join("\n");
}

function spreadText(spread: Spread | undefined): string {
  if (!spread) return "";
  const deviation = spread.deviation === undefined ? "" : ` ± ${spread.deviation.toFixed(4)}`;
  return `${spread.mean.toFixed(4)}${deviation}`;
}
