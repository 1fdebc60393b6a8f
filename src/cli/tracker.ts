import { openSummaryWriter } from "../node/summary-writer";
import type { RunFacts } from "../report/run-log";
import type { Hparam, SummaryWriter } from "../report/summary-writer";
import type { StepReport } from "../train/loop/reports";
import type { Metrics } from "./evaluation";

interface TrackedRun extends Pick<RunFacts, "title" | "command" | "options"> {
  /** Steps that were done before, of a run that is resumed. */
  readonly step: number;
  /** Names of the metrics at the end. */
  readonly metricNames: readonly string[];
}

/** Writes a run for TensorBoard, step by step. */
export class Tracker {
  /** Steps whose evaluation is written. */
  readonly #evaluated = new Set<number>();

  constructor(private readonly writer: SummaryWriter) {}

  add(report: StepReport): Promise<void> {
    return this.writer.addStep(report);
  }

  evaluated(step: number, metrics: Metrics): Promise<void> {
    this.#evaluated.add(step);
    return this.writer.addScalars(step, tagged("eval", metrics));
  }

  /** Writes the metrics of the state that is kept, and the evaluation of the last step. */
  async end(
    step: number,
    metrics: Metrics,
    evaluations: readonly { readonly step: number; readonly metrics: Metrics }[],
  ): Promise<void> {
    const last = evaluations.length > 0 ? evaluations.at(-1)! : { step, metrics };
    if (last.step === step && !this.#evaluated.has(step)) await this.evaluated(step, last.metrics);
    await this.writer.addScalars(step, tagged("final", metrics));
    await this.writer.end();
  }
}

/** Begins to write a run for TensorBoard into a directory; undefined without one. */
export async function openTracker(
  directory: string | undefined,
  { step, title, command, options = {}, metricNames }: TrackedRun,
): Promise<Tracker | undefined> {
  if (directory === undefined) return undefined;
  // A run that begins anew takes the place of what the directory has; one that goes on, of the steps that it repeats.
  const writer = await openSummaryWriter(directory, { purgeStep: step === 0 ? 0 : step + 1 });
  const tags = ["train/loss", ...metricNames.map((name) => `final/${name}`)];
  await writer.addHparams(Object.fromEntries(Object.entries(options).flatMap(hparam)), tags);
  await writer.addText(step, "run", [title, ...(command === undefined ? [] : [`    ${command}`])].join("\n\n"));
  return new Tracker(writer);
}

/** An option as a hyperparameter; none if it is not set. */
function hparam([name, value]: [string, unknown]): [string, Hparam][] {
  if (value === undefined || value === null) return [];
  const isPlain = typeof value === "string" || typeof value === "number" || typeof value === "boolean";
  return [[name, isPlain ? value : JSON.stringify(value)]];
}

const tagged = (group: string, metrics: Metrics): Metrics =>
  Object.fromEntries(Object.entries(metrics).map(([name, value]) => [`${group}/${name}`, value]));
