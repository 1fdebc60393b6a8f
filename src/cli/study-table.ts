import type { Study } from "./study-file";
import type { RunResult } from "./study-run";

/** One run of a study. */
export interface StudyRun {
  readonly method: string;
  readonly task: string;
  readonly seed: number;
  readonly result: RunResult;
}

/** Mean and sample deviation over seeds; no deviation of a single one. */
export interface Spread {
  readonly mean: number;
  readonly deviation: number | undefined;
}

/** A method on a task, over the seeds. */
export interface StudyRow {
  readonly method: string;
  readonly task: string;
  readonly metrics: Readonly<Record<string, Spread>>;
  readonly trainable: number;
  readonly averageTrainable: number;
  readonly frozenShare: number;
  readonly peakBytes: number;
  readonly averageBytes: number;
  readonly flops: number;
  readonly seconds: number;
  /** Seconds relative to the baseline's on the same task. */
  readonly relativeTime: number;
}

/** The papers' table: a row for each method and task that has runs. */
export function studyRows(study: Study, runs: readonly StudyRun[]): StudyRow[] {
  const rows = study.tasks.flatMap(({ name: task }) =>
    study.methods.flatMap(({ name: method }) => {
      const own = runs.filter((run) => run.method === method && run.task === task).map(({ result }) => result);
      return own.length > 0 ? [rowOf(method, task, own)] : [];
    }),
  );
  return rows.map((row) => {
    const base = rows.find(({ method, task }) => method === study.baseline && task === row.task);
    return { ...row, relativeTime: base ? row.seconds / base.seconds : Number.NaN };
  });
}

function rowOf(method: string, task: string, results: readonly RunResult[]): StudyRow {
  const over = (pick: (result: RunResult) => number): number => spread(results.map(pick)).mean;
  const names = Object.keys(results[0]?.metrics ?? {});
  return {
    method,
    task,
    metrics: Object.fromEntries(
      names.map((name) => [name, spread(results.map(({ metrics }) => metrics[name] ?? NaN))]),
    ),
    trainable: over(({ trainable }) => trainable),
    averageTrainable: over(({ averageTrainable }) => averageTrainable),
    frozenShare: over(({ frozenShare }) => frozenShare),
    peakBytes: over(({ peakBytes }) => peakBytes),
    averageBytes: over(({ averageBytes }) => averageBytes),
    flops: over(({ flops }) => flops),
    seconds: over(({ seconds }) => seconds),
    relativeTime: Number.NaN,
  };
}

function spread(values: readonly number[]): Spread {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, deviation: values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : undefined };
}

/** The table in Markdown. The loss is left out; metrics are as the task gives them. */
export function studyMarkdown(rows: readonly StudyRow[]): string {
  const names = [...new Set(rows.flatMap(({ metrics }) => Object.keys(metrics)))].filter((name) => name !== "loss");
  const head = [
    "task",
    "method",
    ...names,
    "numbers that learn (average)",
    "frozen",
    "peak MB",
    "average MB",
    "TFLOP",
    "time",
  ];
  const cells = rows.map((row) => [
    row.task,
    row.method,
    ...names.map((name) => shown(row.metrics[name])),
    `${Math.round(row.trainable)} (${Math.round(row.averageTrainable)})`,
    `${(100 * row.frozenShare).toFixed(0)} %`,
    (row.peakBytes / 1e6).toFixed(2),
    (row.averageBytes / 1e6).toFixed(2),
    (row.flops / 1e12).toFixed(3),
    row.relativeTime.toFixed(2),
  ]);
  const line = (values: readonly string[]): string => `| ${values.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...cells.map(line)].join("\n");
}

function shown(value: Spread | undefined): string {
  if (!value) return "";
  const deviation = value.deviation === undefined ? "" : ` ± ${value.deviation.toFixed(4)}`;
  return `${value.mean.toFixed(4)}${deviation}`;
}
