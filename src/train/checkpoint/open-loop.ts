import { runLength } from "../estimate/run-length";
import { openRun } from "../loop/resources";
import type { RunResources } from "../loop/resources";
import { TrainingLoop } from "../loop/training-loop";
import type { TrainerOptions } from "../options";
import { BatchQueue } from "../step/batch-queue";
import type { RunCheckpoint } from "./record";
import type { Resumption } from "./resume";

/** What the options ask to resume from; undefined for a new run. Throws as `resumption`. */
export async function resumptionOf(options: TrainerOptions): Promise<Resumption | undefined> {
  return options.checkpoints ? (await import("./stored")).resumption(options) : undefined;
}

/** Opens a run that its options describe, among other devices where they say so. Throws as `openRun` and `enterWorld`. */
export async function openFirst(options: TrainerOptions, resumption: Resumption | undefined): Promise<RunResources> {
  const { distributed } = options;
  if (!distributed) return openRun(options, resumption?.origin);
  const { openShared } = await import("./stored");
  return openShared({ ...options, distributed }, resumption?.origin);
}

/** The loop of a run: from its first step, or from a checkpoint. @throws FileFormatError for an incomplete checkpoint. */
export async function openLoop(resources: RunResources, checkpoint?: RunCheckpoint): Promise<TrainingLoop> {
  const { options, first, start } = resources;
  const { accumulate } = runLength(options);
  const queue = checkpoint
    ? BatchQueue.from(options.data, accumulate, resources, checkpoint.record.place)
    : new BatchQueue(options.data, accumulate, { batches: [first], position: start });
  return reopenLoop(resources, queue, checkpoint);
}

/** The loop of a run with the batches of a queue: from its first step, or from a checkpoint. Throws as `openLoop`. */
export async function reopenLoop(
  resources: RunResources,
  queue: BatchQueue,
  checkpoint: RunCheckpoint | undefined,
): Promise<TrainingLoop> {
  if (!checkpoint) return new TrainingLoop(resources, queue);
  const { readPosition } = await import("./stored");
  return new TrainingLoop(resources, queue, await readPosition(checkpoint));
}
