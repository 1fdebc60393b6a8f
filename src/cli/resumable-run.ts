import { rmdir, stat } from "node:fs/promises";
import { constants } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import { SafetapeError } from "../base/errors";
import type { Directory } from "../io/directory";
import { checkSchema } from "../io/json";
import type { FloatTensor, HostTensor } from "../io/safetensors";
import { openDirectory } from "../node/directory";
import { checkpointSteps } from "../train/checkpoint/directory";
import type { CheckpointExtra } from "../train/options";
import type { StepReport } from "../train/loop/reports";
import type { TrainerOptions } from "../train/options";
import type { Trainer } from "../train/trainer";
import type { BestEvaluation } from "./best-evaluation";
import { checkBoard, checkFolder } from "./earlier-results";
import { TRAIN } from "./flags";
import { inFlags } from "./in-flags";
import { UsageError } from "./options";
import type { Values } from "./options";
import { packReports, unpackReports } from "./report-table";

/** Folder of a run's checkpoints in its output directory; removed when the run ends. */
const FOLDER = "checkpoints";

// Names of tensors in checkpoints.
const REPORTS = "reports";
const BEST = "best ";

/** A signal ended the run, after the run was saved. */
export class Interrupted extends SafetapeError {
  constructor(
    fact: string,
    remedy: string,
    /** As shells report it: 128 plus the number of the signal. */
    readonly exitCode: number,
  ) {
    super(fact, remedy);
  }
}

/** What the command adds to the trainer's checkpoints. */
const EXTRA = v.strictObject({
  table: v.strictObject({
    columns: v.array(v.string()),
    rest: v.array(v.strictTuple([v.pipe(v.number(), v.safeInteger()), v.record(v.string(), v.unknown())])),
  }),
  judged: v.unknown(),
});

type Signal = "SIGINT" | "SIGTERM";
type ResumeOptions = Pick<
  Values<typeof TRAIN>,
  "resume" | "overwrite" | "checkpointEvery" | "keepCheckpoints" | "tensorboard"
>;

/** A run that can be stopped by a signal at any moment and continued by `--resume`. */
export class ResumableRun {
  /** Reports of all steps, including those before the run was resumed. */
  readonly reports: StepReport[] = [];
  #evaluation: BestEvaluation | undefined;
  #signal: Signal | undefined;

  private constructor(
    private readonly options: ResumeOptions,
    private readonly path: string,
    private readonly directory: Directory,
  ) {}

  /**
   * @throws UsageError if the output directory has checkpoints of an unfinished run, or the results of a finished one, or that of
   * TensorBoard's files has some, and neither `--resume` nor `--overwrite` says what becomes of them.
   */
  static async open(options: ResumeOptions, outPath: string): Promise<ResumableRun> {
    const path = join(outPath, FOLDER);
    const directory = lazyDirectory(path);
    const { resume, overwrite, tensorboard } = options;
    if (resume && overwrite) {
      throw new UsageError("--resume and --overwrite exclude each other.", "Leave one of them out.");
    }
    const [step] = await checkpointSteps(directory);
    // A run may also have been stopped while it saved its results.
    if (step === undefined && !overwrite) await checkFolder(outPath);
    if (step !== undefined && !resume && !overwrite) {
      throw new UsageError(
        `${path} has a checkpoint of step ${step}, from a run that did not finish.`,
        "Give --resume to continue it, another --out, or --overwrite to begin again in its place.",
      );
    }
    if (tensorboard !== undefined && !resume && !overwrite) await checkBoard(tensorboard);
    return new ResumableRun(options, path, directory);
  }

  /** Options of the trainer that save and resume the run. */
  get trainerOptions(): Partial<TrainerOptions> {
    const { checkpointEvery, keepCheckpoints, resume } = this.options;
    return {
      checkpoints: {
        directory: this.directory,
        every: checkpointEvery,
        keep: keepCheckpoints,
        resume,
        extra: () => this.#extra(),
      },
      warn: (message) => void process.stderr.write(`${inFlags(message, TRAIN)}\n`),
    };
  }

  /** Restores reports and evaluations from the checkpoint that the trainer resumed from, if any. */
  restore({ resumed }: Trainer, evaluation: BestEvaluation): void {
    this.#evaluation = evaluation;
    if (this.options.resume) {
      const start = resumed ? `resuming after step ${resumed.step}` : "no checkpoint found: starting at step 1";
      process.stderr.write(`${start}\n`);
    }
    if (!resumed) return;
    const { record, tensors = new Map<string, HostTensor>() } = resumed.extra;
    const { table, judged } = checkSchema(EXTRA, record, `the command's record in ${resumed.file}`);
    const bits = tensors.get(REPORTS);
    if (bits) this.reports.push(...unpackReports(table, bits));
    const best = new Map<string, FloatTensor>();
    for (const [name, { shape, data }] of tensors) {
      if (name.startsWith(BEST) && data instanceof Float32Array) best.set(name.slice(BEST.length), { shape, data });
    }
    evaluation.restore(judged, best);
  }

  #extra(): CheckpointExtra {
    const { table, bits } = packReports(this.reports);
    const { record, tensors } = this.#evaluation?.save() ?? { record: null, tensors: new Map<string, HostTensor>() };
    const best = [...tensors].map(([name, tensor]) => [`${BEST}${name}`, tensor] as const);
    return { record: { table, judged: record }, tensors: new Map([[REPORTS, bits], ...best]) };
  }

  /** Runs `body`, which checks `isStopping` after every step. A second signal ends the process immediately. */
  async untilSignal<T>(body: () => Promise<T>): Promise<T> {
    const onSignal = (signal: Signal): void => {
      if (this.#signal) process.exit(exitCode(signal));
      this.#signal = signal;
      process.stderr.write(`${signal}: finishing this step and saving the run; a second signal ends it immediately\n`);
    };
    process.on("SIGINT", onSignal).on("SIGTERM", onSignal);
    try {
      return await body();
    } finally {
      process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
    }
  }

  /** Whether a signal asked the run to stop. */
  get isStopping(): boolean {
    return this.#signal !== undefined;
  }

  /** Saves the run and stops it. @throws Interrupted */
  async stop(trainer: Trainer): Promise<never> {
    const { step, totalSteps } = trainer.progress;
    await trainer.saveCheckpoint();
    throw new Interrupted(
      `Stopped after step ${step} of ${totalSteps}; saved in ${this.path}.`,
      "Run the same command with --resume to continue.",
      exitCode(this.#signal ?? "SIGINT"),
    );
  }

  /** Removes the checkpoints of a run whose results are saved. */
  async removeCheckpoints(): Promise<void> {
    for (const file of await this.directory.list()) {
      if (/^checkpoint-\d+\.safetensors$/.test(file)) await this.directory.remove?.(file);
    }
    // The folder may contain other files and then stays.
    await rmdir(this.path).catch(() => undefined);
  }
}

const exitCode = (signal: Signal): number => 128 + constants.signals[signal];

/** A directory that is created when the first file is written into it. */
export function lazyDirectory(path: string): Directory {
  const exists = async (): Promise<boolean> => (await stat(path).catch(() => undefined)) !== undefined;
  const created = (): Promise<Directory> => openDirectory(path, { create: true });
  return {
    name: path,
    list: async () => ((await exists()) ? (await openDirectory(path)).list() : []),
    size: async (file) => ((await exists()) ? (await openDirectory(path)).size(file) : undefined),
    read: async (file, start, end) => (await openDirectory(path)).read(file, start, end),
    write: async (file, content) => (await created()).write(file, content),
    writeTogether: async (files) => (await created()).writeTogether(files),
    remove: async (file) => (await created()).remove?.(file),
  };
}
