import { rmdir, stat } from "node:fs/promises";
import { constants } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import { SafetapeError } from "../base/errors";
import type { Directory } from "../io/directory";
import { checkSchema } from "../io/json";
import type { HostTensor } from "../io/safetensors";
import { openDirectory } from "../node/directory";
import { checkpointSteps } from "../train/checkpoint/directory";
import type { TrainerOptions } from "../train/options";
import type { StepReport } from "../train/loop/reports";
import type { CheckpointExtra } from "../train/options";
import type { Trainer } from "../train/trainer";
import { countOption, UsageError } from "./options";
import type { Given } from "./options";
import { packReports, unpackReports } from "./report-table";

/** Where a run's checkpoints lie while it is not done, in the folder of its results. */
const FOLDER = "checkpoints";
const REPORTS = "reports";
const BEST = "best ";

/** A run that a signal ended, after it was saved. */
export class Interrupted extends SafetapeError {
  constructor(
    fact: string,
    remedy: string,
    /** As shells tell it: 128 and the signal's number. */
    readonly exitCode: number,
  ) {
    super(fact, remedy);
  }
}

/** What the command keeps of a run beside the trainer's own state: evaluations, and the best tensors so far. */
export interface Judged {
  save(): { readonly record: unknown; readonly tensors: ReadonlyMap<string, HostTensor> };
  restore(record: unknown, tensors: ReadonlyMap<string, HostTensor>): void;
}

const EXTRA = v.strictObject({
  table: v.strictObject({
    columns: v.array(v.string()),
    rest: v.array(v.strictTuple([v.pipe(v.number(), v.safeInteger()), v.record(v.string(), v.unknown())])),
  }),
  judged: v.unknown(),
});

type Signal = "SIGINT" | "SIGTERM";

/** Keeps a run of the command so that it can be stopped at any moment and gone on with by `--resume`. */
export class Keeping {
  readonly reports: StepReport[] = [];
  #judged: Judged | undefined;
  #signal: Signal | undefined;

  private constructor(
    private readonly given: Given,
    private readonly path: string,
    private readonly directory: Directory,
  ) {}

  /** @throws UsageError where a run that was not ended lies there and is not to be resumed. */
  static async open(given: Given, outPath: string): Promise<Keeping> {
    const path = join(outPath, FOLDER);
    const directory = lazyDirectory(path);
    const [step] = await checkpointSteps(directory);
    if (step !== undefined && given["resume"] !== true) {
      throw new UsageError(
        `${path} has a checkpoint of step ${step}, of a run that was not ended.`,
        "Give --resume to go on from it, another --out, or remove that folder.",
      );
    }
    return new Keeping(given, path, directory);
  }

  /** What the trainer is to be made with. */
  get options(): Partial<TrainerOptions> {
    return {
      checkpoints: this.directory,
      checkpointEvery: countOption(this.given, "checkpointEvery", "--checkpoint-every", 100, 0),
      keepCheckpoints: countOption(this.given, "keepCheckpoints", "--keep-checkpoints", 2),
      ...(this.given["resume"] === true ? { resume: "auto" as const } : {}),
      checkpointExtra: () => this.#extra(),
      warn: (message) => void process.stderr.write(`${message}\n`),
    };
  }

  /** Takes up what a checkpoint held of the command's own. */
  begin({ resumed }: Trainer, judged: Judged): void {
    this.#judged = judged;
    if (this.given["resume"] === true) {
      const from = resumed ? `going on after step ${resumed.step}` : "no checkpoint: beginning with step 1";
      process.stderr.write(`${from}\n`);
    }
    if (!resumed) return;
    const { record, tensors = new Map<string, HostTensor>() } = resumed.extra;
    const { table, judged: told } = checkSchema(EXTRA, record, `what the command kept in ${resumed.file}`);
    const bits = tensors.get(REPORTS);
    if (bits) this.reports.push(...unpackReports(table, bits));
    const best = [...tensors].filter(([name]) => name.startsWith(BEST));
    judged.restore(told, new Map(best.map(([name, tensor]) => [name.slice(BEST.length), tensor])));
  }

  #extra(): CheckpointExtra {
    const { table, bits } = packReports(this.reports);
    const { record, tensors } = this.#judged?.save() ?? { record: null, tensors: new Map<string, HostTensor>() };
    const best = [...tensors].map(([name, tensor]) => [`${BEST}${name}`, tensor] as const);
    return { record: { table, judged: record }, tensors: new Map([[REPORTS, bits], ...best]) };
  }

  /** Runs a body that looks at `isStopping` after every step. A second signal ends the process at once. */
  async watch<T>(body: () => Promise<T>): Promise<T> {
    const hear = (signal: Signal): void => {
      if (this.#signal) process.exit(exitCode(signal));
      this.#signal = signal;
      process.stderr.write(`${signal}: the step is finished and saved first; a second one ends it at once\n`);
    };
    process.on("SIGINT", hear).on("SIGTERM", hear);
    try {
      return await body();
    } finally {
      process.off("SIGINT", hear).off("SIGTERM", hear);
    }
  }

  get isStopping(): boolean {
    return this.#signal !== undefined;
  }

  /** Saves a run that is to stop. @throws Interrupted */
  async stop(trainer: Trainer): Promise<never> {
    const { step, totalSteps } = trainer.progress;
    await trainer.saveCheckpoint();
    throw new Interrupted(
      `Stopped after step ${step} of ${totalSteps}; saved in ${this.path}.`,
      "The same command with --resume goes on from there.",
      exitCode(this.#signal ?? "SIGINT"),
    );
  }

  /** The run is done and its results are saved: its checkpoints go. */
  async end(): Promise<void> {
    for (const file of await this.directory.list()) {
      if (/^checkpoint-\d+\.safetensors$/.test(file)) await this.directory.remove?.(file);
    }
    // Something else may lie there.
    await rmdir(this.path).catch(() => undefined);
  }
}

const exitCode = (signal: Signal): number => 128 + constants.signals[signal];

/** A directory that is made when something is written into it. */
function lazyDirectory(path: string): Directory {
  const exists = async (): Promise<boolean> => (await stat(path).catch(() => undefined)) !== undefined;
  const opened = (): Promise<Directory> => openDirectory(path, { create: true });
  return {
    name: path,
    list: async () => ((await exists()) ? (await openDirectory(path)).list() : []),
    size: async (file) => (await openDirectory(path)).size(file),
    read: async (file, start, end) => (await openDirectory(path)).read(file, start, end),
    write: async (file, content) => (await opened()).write(file, content),
    writeTogether: async (files) => (await opened()).writeTogether(files),
    remove: async (file) => (await opened()).remove?.(file),
  };
}
