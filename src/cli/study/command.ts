import { constants } from "node:os";
import * as v from "valibot";
import { ConfigError } from "../../base/errors";
import type { WordNet } from "../../data/wordnet";
import type { Engine } from "../../engine";
import type { Directory } from "../../io/directory";
import { jsonBytes, readJson } from "../../io/json";
import { createModel, withHead } from "../../model/families";
import type { Model } from "../../model/model";
import { createEngine, loadModel, openDirectory } from "../../node/index";
import { STUDY, wordNetFor } from "../flags";
import { readOptions, UsageError } from "../options";
import { checkPath } from "../paths";
import type { Print, RawOptions } from "../options";
import { taskHead } from "../tasks/tasks";
import { progressOn } from "../view/progress";
import { metricWords } from "../view/run-view";
import { Screen } from "../view/screen";
import { cellsOf, cellsOfShare, shareOf } from "./cells";
import type { StudyCell } from "./cells";
import { Claims } from "./claims";
import type { Claim } from "./claims";
import { readStudyData, trainingExamples } from "./data";
import type { StudyData } from "./data";
import { readStudy } from "./file";
import type { Study, StudyTask } from "./file";
import { fingerprintsOf } from "./fingerprints";
import { withoutParts } from "./parts";
import { claimDirectory } from "./record";
import { cellResult, saveCell } from "./results";
import type { CellResult } from "./results";
import { runCell } from "./run";
import { studyMarkdown, studyRows } from "./tables";
import type { StudyRun } from "./tables";

/**
 * `safetape study`: runs methods x tasks x seeds, writes one file per run, and prints the tables. A run whose file exists
 * with the same settings is not run again. Several processes may share the work and the directory of results.
 */
export async function studyCommand(path: string | undefined, raw: RawOptions, print: Print): Promise<void> {
  if (path === undefined) throw new UsageError("No study is named.", "Give its file: safetape study STUDY.json.");
  await checkPath("study", path, { kind: "file" });
  const study = await readStudy(path);
  const { out: outPath = `${study.name}-output`, cell, collect, json } = readOptions(STUDY, raw);
  if (collect && cell !== undefined) {
    throw new UsageError(
      "--collect and --cell exclude each other.",
      "A worker runs cells; --collect makes the tables.",
    );
  }
  if (!collect) {
    for (const [i, { what, path: input }] of study.inputs().entries()) {
      await checkPath(what, input, { kind: i === 0 ? "directory" : "file", file: path });
    }
  }
  const cells = cellsOf(study);
  const share = collect ? undefined : shareOf(cell, process.env);
  const mine = collect ? [] : share ? cellsOfShare(cells, share) : cells;
  // A missing package is reported before the first run.
  const needsWordNet = study.tasks.some(({ generate }) => generate?.meteor === "wordnet");
  const wordNet = await wordNetFor(needsWordNet && !collect ? "wordnet" : "variant");
  const sources = new StudySources(study, wordNet);
  await sources.check(mine);
  const out = await openDirectory(outPath, { create: !collect });
  await claimDirectory(out, study, collect ? {} : await fingerprintsOf(study, [path, outPath]));
  using worker = new Worker(study, out, sources);
  await worker.run(mine);
  if (share) {
    print(
      json
        ? JSON.stringify({ cells: mine.map(({ file }) => file), out: out.name })
        : `${mine.length} of ${cells.length} cells, in ${out.name}`,
    );
    return;
  }
  await writeTables(study, cells, out, json, print);
}

/** Makes the tables of all cells that have ended. @throws ConfigError where none has. */
async function writeTables(
  study: Study,
  cells: readonly StudyCell[],
  out: Directory,
  json: boolean,
  print: Print,
): Promise<void> {
  const runs: StudyRun[] = [];
  const gpus: CellResult["gpu"][] = [];
  const missing: StudyCell[] = [];
  for (const cell of cells) {
    const saved = await cellResult(out, study, cell);
    if (!saved) missing.push(cell);
    else {
      runs.push({ method: cell.method.name, task: cell.task.name, seed: cell.seed, result: saved.result });
      if (!gpus.some((gpu) => JSON.stringify(gpu) === JSON.stringify(saved.gpu))) gpus.push(saved.gpu);
    }
  }
  if (runs.length === 0) {
    throw new ConfigError(`${out.name} has no result of this study.`, "Run it, or name the directory with --out.");
  }
  const claims = new Claims(out.name);
  for (const { file, title } of missing) {
    const holder = await claims.holder(file);
    process.stderr.write(`missing: ${title}${holder === undefined ? "" : `, which ${holder} runs`}\n`);
  }
  if (gpus.length > 1) {
    process.stderr.write(`the cells ran on ${gpus.length} different adapters: their times cannot be compared\n`);
  }
  const rows = studyRows(study, runs);
  const table = studyMarkdown(study, rows);
  await out.write("table.md", new TextEncoder().encode(`${table}\n`));
  await out.write("table.json", jsonBytes({ gpus, study, missing: missing.map(({ file }) => file), rows }));
  print(json ? JSON.stringify({ rows, missing: missing.map(({ file }) => file), out: out.name }) : table);
}

const CONFIG = v.record(v.string(), v.unknown());

/** The model and the data of a study. */
class StudySources {
  /** Data of the task that was read last. */
  #data: { readonly task: string; readonly data: StudyData } | undefined;

  constructor(
    private readonly study: Study,
    private readonly wordNet: WordNet | undefined,
  ) {}

  /** Refuses what would end the study at a later cell: parts that a model lacks, and more examples than the data have. */
  async check(cells: readonly StudyCell[]): Promise<void> {
    for (const { task, method } of cells) {
      if (method.without.length > 0) withoutParts(await this.#modelFor(task), method.adapter, method.without);
    }
    for (const task of new Set(cells.map((cell) => cell.task))) {
      if (trainingExamples(task) !== undefined) await this.dataOf(task);
    }
  }

  async dataOf(task: StudyTask): Promise<StudyData> {
    if (this.#data?.task !== task.name) {
      const model = await this.#modelFor(task);
      this.#data = { task: task.name, data: await readStudyData(this.study, task, model, this.wordNet) };
    }
    return this.#data.data;
  }

  /** The model with the head of a task, without weights. */
  async #modelFor(task: StudyTask): Promise<Model> {
    const directory = await openDirectory(this.study.resolve(this.study.model));
    const head = await taskHead(task.task, this.study.resolve(task.data));
    return createModel(withHead(await readJson(directory, "config.json", CONFIG), head));
  }
}

type Signal = "SIGINT" | "SIGTERM";

/** Runs cells one after another, each under a claim. */
class Worker {
  readonly #screen = new Screen(false);
  readonly #progress = progressOn(this.#screen);
  readonly #claims: Claims;
  #engine: Engine | undefined;
  #claim: Claim | undefined;

  constructor(
    private readonly study: Study,
    private readonly out: Directory,
    private readonly sources: StudySources,
  ) {
    this.#claims = new Claims(out.name);
  }

  /** Runs those of the cells that no other worker has run or runs now. A signal gives the claim up and ends the process. */
  async run(cells: readonly StudyCell[]): Promise<void> {
    const onSignal = (signal: Signal): void => {
      this.#claim?.releaseNow();
      process.exit(128 + constants.signals[signal]);
    };
    process.on("SIGINT", onSignal).on("SIGTERM", onSignal);
    try {
      for (const cell of cells) await this.#runClaimed(cell);
    } finally {
      process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
      this.#screen.end();
    }
  }

  async #runClaimed(cell: StudyCell): Promise<void> {
    const { study, out } = this;
    const finished = await cellResult(out, study, cell);
    const claim = finished ? undefined : await this.#claims.take(cell.file);
    if (finished) this.#say(cell, finished, "reused");
    else if (!claim) this.#screen.say(`${cell.title}  left to ${(await this.#claims.holder(cell.file)) ?? "another"}`);
    else {
      this.#claim = claim;
      try {
        await this.#runUnder(claim, cell);
      } finally {
        this.#claim = undefined;
        await claim.release();
      }
    }
  }

  async #runUnder(claim: Claim, cell: StudyCell): Promise<void> {
    const { study, out } = this;
    // It may have ended between the look at its result and the claim.
    const finished = await cellResult(out, study, cell);
    const saved = finished ?? (await this.#run(cell));
    const isLost = !(await claim.isHeld());
    if (!finished && !isLost) await saveCell(out, study, cell, saved);
    const fate = isLost ? "not saved: another worker has taken this cell over" : `${saved.result.seconds.toFixed(0)} s`;
    this.#say(cell, saved, finished ? "reused" : fate);
  }

  #say({ title }: StudyCell, { result }: CellResult, how: string): void {
    this.#screen.say(`${title}  ${metricWords(result.metrics)}  ${how}`);
  }

  async #run(cell: StudyCell): Promise<CellResult> {
    const { study } = this;
    const { task, method, title } = cell;
    const engine = (this.#engine ??= await createEngine());
    const directory = await openDirectory(study.resolve(study.model));
    const head = await taskHead(task.task, study.resolve(task.data));
    const data = await this.sources.dataOf(task);
    const load = () =>
      this.#progress("loading weights", (onProgress) =>
        loadModel(engine, directory, { ...head, weights: method.weights, onProgress }),
      );
    const result = await this.#progress(title, (onProgress) => runCell({ study, cell, data, load }, onProgress));
    return { gpu: engine.info, result };
  }

  [Symbol.dispose](): void {
    this.#engine?.dispose();
  }
}
