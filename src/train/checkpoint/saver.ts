import { ConfigError } from "../../base/errors";
import { directoryAt } from "../../io/directory-like";
import type { TrainingLoop } from "../loop/training-loop";
import type { CheckpointOptions, TrainerOptions } from "../options";
import type { RunIdentity } from "./identity";
import type { RunCheckpoint } from "./record";

const DEFAULT_EVERY_STEPS = 100;
const DEFAULT_KEEP_COUNT = 2;

/** Captures and writes the checkpoints of one trainer. */
export class Saver {
  readonly #checkpoints: CheckpointOptions;
  #identity: RunIdentity | undefined;

  constructor({ checkpoints = {} }: TrainerOptions) {
    this.#checkpoints = checkpoints;
  }

  /** Whether a checkpoint is due after this many steps. */
  isDue(step: number, totalSteps: number): boolean {
    const { directory, every = DEFAULT_EVERY_STEPS } = this.#checkpoints;
    if (directory === undefined || every === 0) return false;
    return step % every === 0 || step === totalSteps;
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
    return captureRun({ resources, queue, position }, this.#identity, this.#checkpoints.extra?.());
  }

  /**
   * Writes a checkpoint and returns the file's name.
   * @param directory default `checkpoints.directory`.
   * @throws ConfigError where there is no directory, FileFormatError where it cannot be written.
   */
  async write(checkpoint: RunCheckpoint, directory = this.#checkpoints.directory): Promise<string> {
    if (!directory) {
      throw new ConfigError("This run has no directory for checkpoints.", "Give one: saveCheckpoint(directory).");
    }
    const { saveCheckpoint } = await import("./stored");
    return saveCheckpoint(
      await directoryAt(directory, { create: true }),
      checkpoint,
      this.#checkpoints.keep ?? DEFAULT_KEEP_COUNT,
    );
  }
}
