import { ConfigError, FileFormatError, SafetapeError } from "../../base/errors";
import type { Directory } from "../../io/directory";
import { readRun, writeRun } from "./file";
import type { RunCheckpoint } from "./record";

const NAME = /^checkpoint-(\d{8,15})\.safetensors$/;

/** A checkpoint's file, by the steps that were done. */
export const checkpointName = (step: number): string => `checkpoint-${String(step).padStart(8, "0")}.safetensors`;

const stepOf = (file: string): number => Number(NAME.exec(file)?.[1] ?? NaN);

/** The steps that a directory has a checkpoint of, latest first. */
export async function checkpointSteps(directory: Directory): Promise<number[]> {
  const files = (await directory.list()).filter((file) => NAME.test(file));
  return files.map(stepOf).sort((a, b) => b - a);
}

export interface FoundRun {
  readonly state: RunCheckpoint;
  readonly file: string;
}

/**
 * The latest whole checkpoint of a directory; undefined where there is none at all.
 * @param warn is told of each that is passed over because it is damaged.
 * @throws FileFormatError where all of them are.
 */
export async function latestRun(directory: Directory, warn: (message: string) => void): Promise<FoundRun | undefined> {
  const steps = await checkpointSteps(directory);
  for (const step of steps) {
    const file = checkpointName(step);
    try {
      return { state: await readRun(directory, file), file };
    } catch (error) {
      if (!(error instanceof SafetapeError) || error instanceof ConfigError) throw error;
      warn(`${error.fact} The checkpoint before it is tried.`);
    }
  }
  if (steps.length === 0) return undefined;
  throw new FileFormatError(
    `None of the ${steps.length} checkpoints in ${directory.name} is whole.`,
    "Remove them to begin anew.",
  );
}

/**
 * Saves a run's state beside those before it, then removes all but the `keep` latest. What is later than this one was
 * damaged, or is of a run that went on from here before.
 */
export async function saveRun(directory: Directory, state: RunCheckpoint, keep: number): Promise<string> {
  const { step } = state.saved;
  const file = checkpointName(step);
  await writeRun(directory, file, state);
  const steps = await checkpointSteps(directory);
  const kept = steps.filter((other) => other <= step).slice(0, keep);
  for (const other of steps) if (!kept.includes(other)) await directory.remove?.(checkpointName(other));
  return file;
}
