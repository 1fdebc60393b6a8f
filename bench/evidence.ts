// Makes bench/results/evidence.md and its figures from the results of the studies on real data.
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { loadPlugins } from "../src/cli/plugin/load";
import type { Figure } from "../src/report/svg";
import { standaloneSvg } from "../src/report/svg";
import { curveFigure, freezeFigure, tradeFigure } from "./evidence/figures";
import type { PairedDifference } from "./evidence/paired";
import { readEvidence } from "./evidence/study";
import type { StudyEvidence } from "./evidence/study";

const FOLDER = "bench/results/evidence";
const STUDIES = ["images", "glue", "generation"];

const INTRODUCTION =
  "# Evidence on real data\n\n" +
  "Made by `npm run bench:evidence` from the results of `npm run study:NAME`. Every figure is on the data's test part. Differences are " +
  "those of runs with the same seed; intervals and p are of Student's test for pairs, p corrected by Holm for the methods of a table. What " +
  "has p of 0.05 or more is not told apart. Memory is the ledger's, FLOPs those of the training steps, without scoring. " +
  "Cost is average memory times FLOPs, by the baseline's. A second table compares what trains the same adapter with SAFE.";

try {
  await loadPlugins(["fashion.mjs", "rising-horizon.mjs"].map((file) => `examples/studies/${file}`));
  const parts: string[] = [];
  for (const name of STUDIES.filter((study) => existsSync(`${FOLDER}/${study}`))) {
    parts.push(await section(await readEvidence(name, `${FOLDER}/${name}`)));
  }
  await writeFile("bench/results/evidence.md", `${[INTRODUCTION, ...parts].join("\n\n")}\n`);
} catch (error) {
  // The message says what is missing, and which command makes it.
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}

async function section(evidence: StudyEvidence): Promise<string> {
  const { name, study, missing, gpus, commits, sources } = evidence;
  const seeds = `${study.seeds.join(", ")}${missing.length > 0 ? ` (${missing.join(", ")} have not run whole)` : ""}`;
  const lines = [
    `## ${name}`,
    "",
    `Adapter: ${gpus.map(({ description }) => description).join("; ")}. Commits: ${commits.join(", ")}. ` +
      `Seeds: ${seeds}. Learning rates are searched by the same rule for every method and seed.`,
  ];
  for (const task of study.tasks) {
    const freezes = freezeFigure(evidence, task.name);
    const figures = [tradeFigure(evidence, task.name), ...(freezes ? [freezes] : []), curveFigure(evidence, task.name)];
    lines.push("", `### ${task.name}`, "", table(evidence, task.name));
    if (evidence.beside) lines.push("", `Beside ${evidence.beside.method}:`, "", besideTable(evidence, task.name));
    for (const figure of figures) lines.push("", await drawn(figure));
    lines.push("", "Learning rates that the searches chose, by seed:", "", rateTable(evidence, task.name));
  }
  lines.push(
    "",
    "SHA-256 of model and data:",
    "",
    ...Object.entries(sources).map(([file, sum]) => `- \`${file}\` ${sum}`),
  );
  return lines.join("\n");
}

async function drawn(figure: Figure): Promise<string> {
  await writeFile(`${FOLDER}/${figure.name}.svg`, standaloneSvg(figure, figure.caption));
  return `![${figure.title}](evidence/${figure.name}.svg)\n\n_${figure.caption}_`;
}

/** The methods that train the same adapter as `beside.method`, each against that. */
function besideTable({ beside, rows }: StudyEvidence, task: string): string {
  const rowOf = (method: string) => rows.find((row) => row.task === task && row.method === method)!;
  const reference = rowOf(beside!.method);
  const lines = beside!.comparisons
    .filter((each) => each.task === task)
    .map(({ method, score, corrected, cost }) => {
      const row = rowOf(method);
      const shares = [row.peakBytes / reference.peakBytes, row.averageBytes / reference.averageBytes];
      const ratios = [...shares, row.flops / reference.flops, cost].map((ratio) => ratio.toFixed(2));
      return [method, differenceText(score), corrected.toPrecision(2), ...ratios];
    });
  return markdown(["method", "score", "p", "peak", "average memory", "FLOPs", "cost"], lines);
}

function differenceText({ mean, margin }: PairedDifference): string {
  return `${mean < 0 ? "" : "+"}${mean.toFixed(4)} ± ${margin.toFixed(4)}`;
}

function table({ study, rows, comparisons, runs }: StudyEvidence, task: string): string {
  const own = rows.filter((row) => row.task === task);
  const metric = Object.keys(own[0]!.metrics)[0]!;
  const lines = own.map((row) => {
    const { mean, deviation } = row.metrics[metric]!;
    const compared = comparisons.find((each) => each.task === task && each.method === row.method);
    return [
      1 + study.methods.findIndex(({ name }) => name === row.method),
      row.method,
      `${mean.toFixed(4)} ± ${(deviation ?? NaN).toFixed(4)}`,
      compared ? differenceText(compared.score) : "",
      compared ? compared.corrected.toPrecision(2) : "",
      (row.peakBytes / 1e6).toFixed(2),
      (row.averageBytes / 1e6).toFixed(2),
      (row.flops / 1e12).toFixed(3),
      compared ? compared.cost.toFixed(2) : "1",
      row.relativeTime.toFixed(2),
      frozenText(runs.flatMap((run) => (run.task === task && run.method === row.method ? [run.result.freezes] : []))),
    ];
  });
  const against = `against ${study.baseline}`;
  const head = [
    "",
    "method",
    metric,
    against,
    "p",
    "peak MB",
    "average MB",
    "TFLOP",
    "cost",
    "time",
    "layers frozen, by seed",
  ];
  return markdown(head, lines);
}

type Freezes = StudyEvidence["runs"][number]["result"]["freezes"];

/** "0 1 at 40, 2 at 90 / none" */
function frozenText(bySeed: readonly Freezes[]): string {
  if (bySeed.every((freezes) => freezes.length === 0)) return "";
  const one = (freezes: Freezes): string =>
    freezes.flatMap(({ step, layers }) => (layers.length > 0 ? [`${layers.join(" ")} at ${step}`] : [])).join(", ");
  return bySeed.map((freezes) => one(freezes) || "none").join(" / ");
}

function rateTable({ study, runs }: StudyEvidence, task: string): string {
  const lines = study.methods.map(({ name: method }) => [
    method,
    ...study.seeds.map((seed) => {
      const run = runs.find((each) => each.task === task && each.method === method && each.seed === seed)!;
      return String(run.result.learningRate);
    }),
  ]);
  return markdown(["method", ...study.seeds.map(String)], lines);
}

function markdown(head: readonly string[], lines: readonly (readonly (string | number)[])[]): string {
  const line = (cells: readonly (string | number)[]): string => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...lines.map(line)].join("\n");
}
