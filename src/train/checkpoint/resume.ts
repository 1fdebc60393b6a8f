import { ConfigError, FileFormatError } from "../../base/errors";
import { checkpointSteps, latestRun } from "./directory";
import type { FoundRun } from "./directory";
import { TrainingLoop } from "../loop/training-loop";
import type { LoopPosition } from "../loop/training-loop";
import type { RunResources } from "../loop/resources";
import { runLength } from "../estimate/run-length";
import type { CheckpointExtra, TrainerOptions } from "../options";
import type { FreezeEvent } from "../loop/reports";
import { extraOf, gpuName, historyOf } from "./record";
import type { RunCheckpoint } from "./record";
import { BatchQueue, queueFrom } from "../step/batch-queue";

/** What a trainer went on from. */
export interface Resumed {
  readonly file: string;
  /** Steps that were done. */
  readonly step: number;
  /** What `checkpointExtra` gave then. */
  readonly extra: CheckpointExtra;
}

/** Tells the user, by the trainer's option or on the console. */
export const warnBy = ({ warn }: Pick<TrainerOptions, "warn">): ((message: string) => void) =>
  // eslint-disable-next-line no-console -- by default there is nobody else to tell
  warn ?? ((message) => console.warn(message));

/**
 * The state that a trainer's options ask to go on from.
 * @throws ConfigError where a new run would stand beside an old one's checkpoints, FileFormatError where there is nothing to
 * go on from.
 */
export async function checkpointToResume(options: TrainerOptions): Promise<FoundRun | undefined> {
  const { checkpoints, resume, checkpointEvery = 1, keepCheckpoints = 1 } = options;
  for (const [name, value] of Object.entries({ checkpointEvery, keepCheckpoints })) {
    const least = name === "keepCheckpoints" ? 1 : 0;
    if (Number.isInteger(value) && value >= least) continue;
    throw new ConfigError(`${name} is ${value}.`, `Give a whole number from ${least}.`);
  }
  if (resume === undefined) {
    const [latest] = checkpoints ? await checkpointSteps(checkpoints) : [];
    if (latest === undefined) return undefined;
    throw new ConfigError(
      `${checkpoints?.name} has a checkpoint of step ${latest} already.`,
      'Give resume: "auto" to go on from it, or another directory, or remove its checkpoints.',
    );
  }
  const directory = resume === "auto" ? checkpoints : resume;
  if (!directory) throw new ConfigError('resume is "auto", but there are no checkpoints.', "Give a directory.");
  const found = await latestRun(directory, warnBy(options));
  if (found || resume === "auto") return found;
  throw new FileFormatError(`There is no checkpoint in ${directory.name}.`, "Check the path, or begin a new run.");
}

/** Says so where a checkpoint was made on another adapter. */
export function warnOfOtherGpu(options: TrainerOptions, { file, state }: FoundRun): void {
  const gpu = gpuName(options);
  if (gpu === state.saved.gpu) return;
  warnBy(options)(`${file} was made on ${state.saved.gpu}; on ${gpu} the run goes on, but may round otherwise.`);
}

/** What a trainer's user is told of what it went on from. */
export async function resumedFrom({ file, state }: FoundRun): Promise<Resumed> {
  return { file, step: state.saved.step, extra: await extraOf(state) };
}

/** A run from its first step on. */
export function newLoop(run: RunResources): TrainingLoop {
  const { options, first, start } = run;
  const { accumulate } = runLength(options);
  return new TrainingLoop(run, new BatchQueue(options.data, accumulate, { batches: [first], place: start }));
}

/** A run from where a state was taken. @throws FileFormatError for a state that is not whole. */
export async function resumedLoop(run: RunResources, state: RunCheckpoint): Promise<TrainingLoop> {
  const { place } = state.saved;
  const upcoming = queueFrom(run.options.data, runLength(run.options).accumulate, run, place);
  return new TrainingLoop(run, upcoming, await positionOf(state));
}

/** How far a run was. @throws FileFormatError */
export async function positionOf(state: RunCheckpoint): Promise<LoopPosition> {
  const { step, hasBegun, untold } = state.saved;
  return { step, hasBegun, history: await historyOf(state), untold: untold as unknown as readonly FreezeEvent[] };
}
