import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { cellsOf } from "../../src/cli/study/cells";
import { readStudy } from "../../src/cli/study/file";
import type { Study } from "../../src/cli/study/file";
import { cellResult } from "../../src/cli/study/results";
import type { CellResult } from "../../src/cli/study/results";
import { studyRows } from "../../src/cli/study/tables";
import type { StudyRow, StudyRun } from "../../src/cli/study/tables";
import { openDirectory } from "../../src/node/index";
import { holm, pairedDifference } from "./paired";
import type { PairedDifference } from "./paired";

/** A method against another on one task: test score, and average memory times time by the other's. */
export interface Comparison {
  readonly task: string;
  readonly method: string;
  readonly score: PairedDifference;
  /** p of the score's difference, corrected for the number of methods that are compared on the task. */
  readonly corrected: number;
  /** Average bytes times FLOPs, relative to the other's; FLOPs since seconds depend on what else ran. */
  readonly cost: number;
}

/** The results of those seeds of a study whose runs are all there. */
export interface StudyEvidence {
  readonly name: string;
  /** With those seeds alone. */
  readonly study: Study;
  /** The other seeds. */
  readonly missing: readonly number[];
  readonly runs: readonly StudyRun[];
  readonly rows: readonly StudyRow[];
  /** With the study's baseline. */
  readonly comparisons: readonly Comparison[];
  /** The methods that train the same adapter as LoRA + SAFE, each against that; undefined for a study without it. */
  readonly beside: { readonly method: string; readonly comparisons: readonly Comparison[] } | undefined;
  readonly gpus: readonly CellResult["gpu"][];
  /** Commits of the code that began or continued it. */
  readonly commits: readonly string[];
  /** SHA-256 of the files of model and data. */
  readonly sources: Readonly<Record<string, string>>;
}

/**
 * Reads the results of a study.
 * @throws Error where fewer than two seeds are complete.
 */
export async function readEvidence(name: string, folder: string): Promise<StudyEvidence> {
  const whole = await readStudy(`examples/studies/${name}.json`);
  const out = await openDirectory(folder);
  const all: StudyRun[] = [];
  const gpus = new Map<string, CellResult["gpu"]>();
  const missing = new Set<number>();
  for (const cell of cellsOf(whole)) {
    const saved = await cellResult(out, whole, cell);
    if (!saved) {
      missing.add(cell.seed);
      continue;
    }
    all.push({ method: cell.method.name, task: cell.task.name, seed: cell.seed, result: saved.result });
    gpus.set(JSON.stringify(saved.gpu), saved.gpu);
  }
  const runs = all.filter(({ seed }) => !missing.has(seed));
  const study = { ...whole, seeds: whole.seeds.filter((seed) => !missing.has(seed)) };
  if (study.seeds.length < 2)
    throw new Error(`${folder} has fewer than two complete seeds.\nRun npm run study:${name}.`);
  const json = async (file: string): Promise<unknown> => JSON.parse(await readFile(join(folder, file), "utf8"));
  // Written by examples/studies/run.mjs.
  const starts = (await json("starts.json")) as readonly { readonly commit: string }[];
  // Written by `claimDirectory`.
  const { sources } = (await json("study.json")) as Pick<StudyEvidence, "sources">;
  const rows = studyRows(study, runs);
  const compare = (reference: string, methods: readonly string[]): Comparison[] =>
    study.tasks.flatMap(({ name: task }) => comparisonsOn(task, reference, methods, { runs, rows }));
  const sameAdapter = methodsBeside("LoRA + SAFE", study);
  return {
    name,
    study,
    missing: [...missing],
    runs,
    rows,
    comparisons: compare(
      study.baseline,
      study.methods.map(({ name }) => name),
    ),
    beside: sameAdapter && { method: sameAdapter.method, comparisons: compare(sameAdapter.method, sameAdapter.others) },
    gpus: [...gpus.values()],
    commits: [...new Set(starts.map(({ commit }) => commit))],
    sources,
  };
}

/** The test score of each seed, in their order. */
export function scores(runs: readonly StudyRun[], task: string, method: string): number[] {
  const own = runs.filter((run) => run.task === task && run.method === method).sort((a, b) => a.seed - b.seed);
  return own.map(({ result }) => Object.values(result.metrics)[0]!);
}

/** The other methods that train the adapter of a method. */
function methodsBeside(method: string, { methods }: Study) {
  const reference = methods.find(({ name }) => name === method);
  const adapterOf = ({ adapter }: Study["methods"][number]): string => JSON.stringify(adapter);
  const others = methods.filter((each) => reference && each !== reference && adapterOf(each) === adapterOf(reference));
  return reference && { method, others: others.map(({ name }) => name) };
}

function comparisonsOn(
  task: string,
  reference: string,
  methods: readonly string[],
  { runs, rows }: Pick<StudyEvidence, "runs" | "rows">,
): Comparison[] {
  const others = methods.filter((name) => name !== reference);
  const before = scores(runs, task, reference);
  const differences = others.map((method) => pairedDifference(scores(runs, task, method), before));
  const corrected = holm(differences.map(({ p }) => p));
  const costOf = (method: string): number => {
    const row = rows.find((each) => each.task === task && each.method === method)!;
    return row.averageBytes * row.flops;
  };
  return others.map((method, i) => ({
    task,
    method,
    score: differences[i]!,
    corrected: corrected[i]!,
    cost: costOf(method) / costOf(reference),
  }));
}
