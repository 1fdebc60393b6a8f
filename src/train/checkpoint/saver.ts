import { ConfigError } from "../../base/errors";
import type { Directory } from "../../io/directory";
import { saveRun } from "./directory";
import type { TrainerOptions } from "../options";
import { identityOf } from "./identity";
import type { Identity } from "./identity";
import { captureRun } from "./record";
import type { RunMoment, RunCheckpoint } from "./record";

/** A run between two steps, as its trainer knows it. */
export type Moment = Omit<RunMoment, "identity" | "extra">;

const EVERY = 100;
const KEPT = 2;

/** Saves one trainer's run. */
export class Saver {
  #identity: Identity | undefined;

  constructor(private readonly options: TrainerOptions) {}

  /** Whether a checkpoint is wanted after so many steps, the last one being `total`. */
  isDue(step: number, total: number): boolean {
    const { checkpoints, checkpointEvery: every = EVERY } = this.options;
    return checkpoints !== undefined && every > 0 && (step % every === 0 || step === total);
  }

  /** The state as it is now; its tensors are read from the device when they are asked for. */
  async capture(moment: Moment): Promise<RunCheckpoint> {
    this.#identity ??= await identityOf(moment.run);
    return captureRun({ ...moment, identity: this.#identity, extra: this.options.checkpointExtra?.() });
  }

  /** Writes a state and gives the file's name. @throws ConfigError where no directory is named, FileFormatError. */
  async write(state: RunCheckpoint, directory: Directory | undefined): Promise<string> {
    const { checkpoints, keepCheckpoints = KEPT } = this.options;
    const target = directory ?? checkpoints;
    if (target) return saveRun(target, state, keepCheckpoints);
    throw new ConfigError("This run has no directory for checkpoints.", "Give one: saveCheckpoint(directory).");
  }
}
