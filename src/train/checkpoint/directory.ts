import { ConfigError, FileFormatError, SafetapeError } from "../../base/errors";
import type { Directory } from "../../io/directory";
import { readCheckpoint, writeCheckpoint } from "./file";
import type { RunCheckpoint } from "./record";

const FILE_NAME = /^checkpoint-(\d{8,15})\.safetensors$/;

/** File name of the checkpoint after this many optimizer steps. */
export function checkpointName(step: number): string {
  return `checkpoint-${String(step).padStart(8, "0")}.safetensors`;
}

/** The steps of which a directory has a checkpoint, latest first. */
export async function checkpointSteps(directory: Directory): Promise<number[]> {
  const steps = (await directory.list()).flatMap((file) => {
    const step = FILE_NAME.exec(file)?.[1];
    return step === undefined ? [] : Number(step);
  });
  return steps.sort((a, b) => b - a);
}

export interface CheckpointFile {
  readonly checkpoint: RunCheckpoint;
  /** Its name, for messages. */
  readonly file: string;
}

/**
 * The latest intact checkpoint of a directory; undefined where it has none at all.
 * @param warn is called for each damaged checkpoint.
 * @throws FileFormatError where all of them are damaged.
 */
export async function latestCheckpoint(
  directory: Directory,
  warn: (message: string) => void,
): Promise<CheckpointFile | undefined> {
  const steps = await checkpointSteps(directory);
  for (const step of steps) {
    const file = checkpointName(step);
    try {
      return { checkpoint: await readCheckpoint(directory, file), file };
    } catch (error) {
      if (!(error instanceof SafetapeError) || error instanceof ConfigError) throw error;
      warn(`${error.fact} The checkpoint before it is tried.`);
    }
  }
  if (steps.length === 0) return undefined;
  throw new FileFormatError(
    `All ${steps.length} checkpoints in ${directory.name} are damaged.`,
    "Remove them to begin a new run.",
  );
}

/**
 * Writes a checkpoint, then removes all but the latest ones. Checkpoints of later steps are removed as well: they are
 * damaged, or belong to a run that continued from an earlier step than this one.
 * @param keepCount number of checkpoints to keep.
 * @returns the file's name.
 */
export async function saveCheckpoint(
  directory: Directory,
  checkpoint: RunCheckpoint,
  keepCount: number,
): Promise<string> {
  const { step } = checkpoint.record;
  const file = checkpointName(step);
  await writeCheckpoint(directory, file, checkpoint);
  const steps = await checkpointSteps(directory);
  const keptSteps = steps.filter((other) => other <= step).slice(0, keepCount);
  for (const other of steps) if (!keptSteps.includes(other)) await directory.remove?.(checkpointName(other));
  return file;
}
