import { join } from "node:path";
import { openSummaryWriter } from "../node/summary-writer";
import { trackByWandb } from "../node/wandb";
import type { RunFacts } from "../report/run-log";
import { stepScalars } from "../report/summary-writer";
import type { Hparam } from "../report/summary-writer";
import type { StepReport } from "../train/loop/reports";
import type { Metrics } from "./evaluation";
import { ADDED } from "./plugin/registries";

/** Where a run is shown as it goes on. */
export interface Tracker {
  /** Scalars of a step by tag: train/loss and others of every step, eval/NAME of evaluations, final/NAME of the state that is kept. */
  readonly log: (step: number, scalars: Readonly<Record<string, number>>) => void | Promise<void>;
  /** The run has ended; it is not called for one that is interrupted. */
  readonly end?: () => void | Promise<void>;
}

/** A run that is to be tracked. */
export interface TrackedRun {
  readonly title: string;
  /** The command that runs it. */
  readonly command: string | undefined;
  /** Options that are set, for hyperparameters. */
  readonly options: Readonly<Record<string, Hparam>>;
  /** Steps that were done before, of a run that is resumed. */
  readonly step: number;
  /** Names of the metrics at the end. */
  readonly metricNames: readonly string[];
}

/** Begins to track a run. */
export type TrackerMaker = (run: TrackedRun) => Tracker | Promise<Tracker>;

/** Trackers that come with the package. */
export const TRACKER_NAMES = ["tensorboard", "wandb"] as const;

/** A run in all its trackers. */
export class Tracking {
  /** Steps whose evaluation is logged. */
  readonly #evaluated = new Set<number>();
  readonly #trackers: Map<string, Tracker>;

  constructor(trackers: Iterable<readonly [string, Tracker]>) {
    this.#trackers = new Map(trackers);
  }

  add(report: StepReport): Promise<void> {
    return this.#log(report.step, stepScalars(report));
  }

  evaluated(step: number, metrics: Metrics): Promise<void> {
    this.#evaluated.add(step);
    return this.#log(step, tagged("eval", metrics));
  }

  /** Logs the metrics of the state that is kept, and the evaluation of the last step. */
  async end(
    step: number,
    metrics: Metrics,
    evaluations: readonly { readonly step: number; readonly metrics: Metrics }[],
  ): Promise<void> {
    const last = evaluations.length > 0 ? evaluations.at(-1)! : { step, metrics };
    if (last.step === step && !this.#evaluated.has(step)) await this.evaluated(step, last.metrics);
    await this.#log(step, tagged("final", metrics));
    await this.#each((tracker) => tracker.end?.());
  }

  #log(step: number, scalars: Metrics): Promise<void> {
    return this.#each((tracker) => tracker.log(step, scalars));
  }

  /** A tracker elsewhere may fail without ending the run, which goes on without it; that the disk is full is the run's concern. */
  async #each(work: (tracker: Tracker) => void | Promise<void>): Promise<void> {
    for (const [name, tracker] of [...this.#trackers]) {
      try {
        await work(tracker);
      } catch (error) {
        if (name === "tensorboard") throw error;
        this.#trackers.delete(name);
        const [reason] = (error instanceof Error ? error.message : String(error)).split("\n", 1);
        process.stderr.write(`the run goes on without ${name}: ${reason}\n`);
      }
    }
  }
}

interface ReportTo {
  /** Names of trackers. */
  readonly names: readonly string[];
  /** Directory of TensorBoard's files; undefined where it has not been named. */
  readonly tensorboard: string | undefined;
  /** Directory of the run. */
  readonly out: string;
}

/** Begins to track a run by all trackers that are named. */
export async function openTracking(
  { names, tensorboard, out }: ReportTo,
  {
    options = {},
    command,
    ...facts
  }: Pick<RunFacts, "title" | "command" | "options"> & Pick<TrackedRun, "step" | "metricNames">,
): Promise<Tracking> {
  const hparams = Object.fromEntries(Object.entries(options).flatMap(hparam));
  const run: TrackedRun = { ...facts, command, options: hparams };
  const makers: Record<string, TrackerMaker | undefined> = {
    tensorboard: (tracked) => trackByTensorboard(tensorboard ?? join(out, "tensorboard"), tracked),
    wandb: trackByWandb,
  };
  const all = new Set([...names, ...(tensorboard === undefined ? [] : ["tensorboard"])]);
  const trackers: (readonly [string, Tracker])[] = [];
  // The option has refused names that nothing has.
  for (const name of all) trackers.push([name, await (makers[name] ?? ADDED.trackers.get(name)!)(run)]);
  return new Tracking(trackers);
}

/** Writes a run for TensorBoard into a directory. */
async function trackByTensorboard(
  directory: string,
  { step, title, command, options, metricNames }: TrackedRun,
): Promise<Tracker> {
  // A run that goes on takes the place of the steps that it repeats.
  const writer = await openSummaryWriter(directory, step > 0 ? { purgeStep: step + 1 } : {});
  await writer.addHparams(options, ["train/loss", ...metricNames.map((name) => `final/${name}`)]);
  await writer.addText(step, "run", [title, ...(command === undefined ? [] : [`    ${command}`])].join("\n\n"));
  return { log: (at, scalars) => writer.addScalars(at, scalars), end: () => writer.end() };
}

/** An option as a hyperparameter; none if it is not set. */
function hparam([name, value]: [string, unknown]): [string, Hparam][] {
  if (value === undefined || value === null) return [];
  const isPlain = typeof value === "string" || typeof value === "number" || typeof value === "boolean";
  return [[name, isPlain ? value : JSON.stringify(value)]];
}

const tagged = (group: string, metrics: Metrics): Metrics =>
  Object.fromEntries(Object.entries(metrics).map(([name, value]) => [`${group}/${name}`, value]));
