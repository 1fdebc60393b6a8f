import { ConfigError } from "../../base/errors";
import type { TrainingLoop } from "../loop/training-loop";
import type { TrainerOptions } from "../options";
import type { RunIdentity } from "./identity";
import type { RunCheckpoint } from "./record";

const DEFAULT_EVERY_STEPS = 100;
const DEFAULT_KEEP_COUNT = 2;

/** Captures and writes the checkpoints of one trainer. */
export class Saver {
  #identity: RunIdentity | undefined;

  constructor(private readonly options: TrainerOptions) {}

  /** Whether a checkpoint is due after this many steps. */
  isDue(step: number, totalSteps: number): boolean {
    const { checkpoints, checkpointEvery = DEFAULT_EVERY_STEPS } = this.options;
    if (checkpoints === undefined || checkpointEvery === 0) return false;
    return step % checkpointEvery === 0 || step === totalSteps;
  }

  /**
   * The current state of a loop. Tensors are read from the device when they are needed.
   * @throws ConfigError where the last step is not complete.
   */
  async capture(loop: TrainingLoop): Promise<RunCheckpoint> {
    const position = loop.position();
    const { captureRun, runIdentity } = await import("./stored");
    this.#identity ??= await runIdentity(loop.resources);
    const { resources, queue } = loop;
    return captureRun({ resources, queue, position }, this.#identity, this.options.checkpointExtra?.());
  }

  /**
   * Writes a checkpoint and returns the file's name.
   * @param directory default the option `checkpoints`.
   * @throws ConfigError where there is no directory, FileFormatError where it cannot be written.
   */
  async write(checkpoint: RunCheckpoint, directory = this.options.checkpoints): Promise<string> {
    if (!directory) {
      throw new ConfigError("This run has no directory for checkpoints.", "Give one: saveCheckpoint(directory).");
    }
    const { saveCheckpoint } = await import("./stored");
    return saveCheckpoint(directory, checkpoint, this.options.keepCheckpoints ?? DEFAULT_KEEP_COUNT);
  }
}
