import type { Device } from "../../gpu/device";
import type { DirectoryLike } from "../../io/directory-like";
import { openRun } from "../loop/resources";
import type { TrainingLoop } from "../loop/training-loop";
import type { TrainerOptions } from "../options";
import type { DataPosition } from "../step/batch-queue";
import { openLoop, reopenLoop } from "./open-loop";
import type { RunCheckpoint } from "./record";
import type { Saver } from "./saver";

const DEFAULT_EVERY_STEPS = 50;
/** Device losses in a row, with nothing finished in between, after which a run stops. */
const MAX_LOSSES = 3;

/**
 * Carries a run over the loss of its device: opens another device, loads the model again, returns to the last copy of the
 * run in host memory, and repeats the steps since then, to the same bits.
 */
export class Recovery {
  #loop: TrainingLoop;
  /** The last copy of the run in host memory; undefined where that is the start. */
  #copy: RunCheckpoint | undefined;
  /** Position of the data at the copy. */
  #copyPosition: DataPosition;
  /** Steps whose results the caller has received. */
  #deliveredSteps: number;
  /** Host writes to the tensors that the caller has made. */
  #knownWrites: number;
  #losses = 0;

  /** @param origin the checkpoint that the run resumed from. */
  constructor(
    private readonly options: TrainerOptions,
    private readonly saver: Saver,
    loop: TrainingLoop,
    origin: RunCheckpoint | undefined,
  ) {
    this.#loop = loop;
    this.#copy = origin;
    this.#copyPosition = this.isOn ? loop.queue.mark() : loop.queue.position;
    this.#deliveredSteps = loop.progress.step;
    this.#knownWrites = loop.resources.state.writes;
  }

  get loop(): TrainingLoop {
    return this.#loop;
  }

  get isOn(): boolean {
    const { recover = true, model, distributed } = this.options;
    return recover !== false && !distributed && model.engine.canReopen && model.canReload;
  }

  /**
   * Runs something on the loop. Where the device is lost meanwhile, recovers and runs it again.
   * @param body calls `onProgress` where a part of it is finished, so that losses before and after do not count as in a row.
   */
  async attempt<T>(body: (loop: TrainingLoop, onProgress: () => void) => Promise<T>): Promise<T> {
    const onProgress = (): void => void (this.#losses = 0);
    for (;;) {
      const { device } = this.#loop;
      try {
        const result = await body(this.#loop, onProgress);
        this.#losses = 0;
        this.#deliveredSteps = this.#loop.progress.step;
        this.#knownWrites = this.#loop.resources.state.writes;
        return result;
      } catch (error) {
        if (await this.#takeOver()) continue;
        if (!this.isOn || !(await device.isLost())) throw error;
        await this.#recover(device, error);
      }
    }
  }

  /** Before a step of several devices: takes over the leader's state, or gives its own to those that lack it. */
  async meetOthers(): Promise<void> {
    await this.#takeOver();
    const { world, local } = this.#loop.resources;
    // Between two exchanges devices have tensors of their own; the run that goes on from there may have no other devices yet.
    if (!this.#loop.isBetweenSteps || (local?.isAtStart === false && world!.rounds > 0)) return;
    await world?.meet(async () => {
      const { checkpointBytes } = await import("./stored");
      return checkpointBytes(await this.saver.capture(this.#loop));
    });
  }

  /** Takes over the leader's state where this device needs it. Resolves with whether it did. */
  async #takeOver(): Promise<boolean> {
    const { resources } = this.#loop;
    if (!resources.world?.needsState) return false;
    const { checkpointOf, originOf } = await import("./stored");
    const checkpoint = await checkpointOf(await resources.world.fetchState());
    this.#loop.dispose();
    const origin = originOf({ checkpoint, file: "the state of the run" });
    this.#loop = await openLoop(await openRun(this.options, origin, resources), checkpoint);
    this.#deliveredSteps = this.#loop.progress.step;
    return true;
  }

  /** Copies the run to host memory where that is due: after a number of steps, or where the host overwrote tensors. */
  async copyIfDue(): Promise<void> {
    if (!this.isOn || !this.#loop.isBetweenSteps) return;
    const { recover } = this.options;
    const every = (typeof recover === "object" ? recover.every : undefined) ?? DEFAULT_EVERY_STEPS;
    const isOverwritten = this.#loop.resources.state.writes !== this.#knownWrites;
    const copiedStep = this.#copy?.record.step ?? 0;
    if (isOverwritten || this.#deliveredSteps - copiedStep >= every) await this.copy();
  }

  /** Copies the run to host memory. */
  async copy(): Promise<RunCheckpoint> {
    return this.attempt(async (loop) => {
      const { copyToHost } = await import("./stored");
      const copy = await copyToHost(await this.saver.capture(loop));
      this.#copyPosition = loop.queue.mark();
      this.#copy = copy;
      return copy;
    });
  }

  /** Writes a checkpoint of the run: of the last copy where the device is lost for good. Returns the file's name. */
  async save(directory: DirectoryLike | undefined): Promise<string> {
    if (this.#losses >= MAX_LOSSES && this.#copy) return this.saver.write(this.#copy, directory);
    const checkpoint = this.isOn ? await this.copy() : await this.saver.capture(this.#loop);
    return this.saver.write(checkpoint, directory);
  }

  /** Recovers from a loss, and from losses during the recovery. @throws DeviceError after too many in a row. */
  async #recover(firstLost: Device, firstError: unknown): Promise<void> {
    let [lost, cause] = [firstLost, firstError];
    for (;;) {
      if (++this.#losses >= MAX_LOSSES) {
        const { tooManyLosses } = await import("./stored");
        throw await tooManyLosses(this.options, this.#losses, cause, {
          step: this.#copy?.record.step,
          save: () => this.save(undefined),
        });
      }
      try {
        await this.#returnToCopy(lost);
        return;
      } catch (error) {
        lost = this.options.model.engine.device;
        if (!(await lost.isLost())) throw error;
        cause = error;
      }
    }
  }

  async #returnToCopy(lost: Device): Promise<void> {
    const { model } = this.options;
    const { resources, queue } = this.#loop;
    const copy = this.#copy;
    this.#loop.dispose();
    await model.engine.reopen(lost);
    await model.reload();
    const origin = copy && (await import("./stored")).originOf({ checkpoint: copy, file: "the copy in host memory" });
    const reopened = await openRun(this.options, origin, resources);
    queue.rewind(this.#copyPosition);
    this.#loop = await reopenLoop(reopened, queue, copy);
    while (this.#loop.progress.step < this.#deliveredSteps) await this.#loop.step(false);
  }
}
