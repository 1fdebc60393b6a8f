import { DeviceError } from "../../base/errors";
import type { Device } from "../../gpu/device";
import type { Directory } from "../../io/directory";
import { TrainingLoop } from "../loop/training-loop";
import { openRun } from "../loop/resources";
import type { TrainerOptions } from "../options";
import { positionOf } from "./resume";
import { heldInMemory } from "./record";
import type { RunCheckpoint } from "./record";
import type { Saver } from "./saver";
import type { DataPosition } from "../step/batch-queue";

const EVERY = 50;
/** Losses in a row, with nothing finished in between, after which a run stops. */
const MOST_LOSSES = 3;

/**
 * Carries a run over the loss of its device: opens another one, loads the model again, goes back to the state that the host
 * has in memory, and runs what followed it once more, to the same bits.
 */
export class Recovery {
  #course: TrainingLoop;
  #held: RunCheckpoint | undefined;
  /** Where the data were then. */
  #place: DataPosition;
  /** Steps that the caller has had. */
  #done: number;
  #writes: number;
  #losses = 0;

  /** @param from the state that the run went on from. */
  constructor(
    private readonly options: TrainerOptions,
    private readonly saver: Saver,
    course: TrainingLoop,
    from: RunCheckpoint | undefined,
  ) {
    this.#course = course;
    this.#held = from;
    this.#place = this.isOn ? course.upcoming.mark() : course.upcoming.place;
    this.#done = course.progress.step;
    this.#writes = course.state.writes;
  }

  get course(): TrainingLoop {
    return this.#course;
  }

  get isOn(): boolean {
    const { recover = true, model } = this.options;
    return recover !== false && model.engine.canReopen && model.canReload;
  }

  /** Runs something on the course; once more, from the same state on, where the device is lost meanwhile. */
  async attempt<T>(body: (course: TrainingLoop, onProgress: () => void) => Promise<T>): Promise<T> {
    const onProgress = (): void => void (this.#losses = 0);
    for (;;) {
      const { device } = this.#course;
      try {
        const result = await body(this.#course, onProgress);
        this.#losses = 0;
        this.#done = this.#course.progress.step;
        this.#writes = this.#course.state.writes;
        return result;
      } catch (error) {
        if (!this.isOn || !(await device.isLost())) throw error;
        await this.#recover(device, error);
      }
    }
  }

  /** Copies the state to the host's memory where that is due: after so many steps, or where tensors were overwritten. */
  async holdIfDue(): Promise<void> {
    if (!this.isOn || !this.#course.isBetweenSteps) return;
    const { recover } = this.options;
    const every = (typeof recover === "object" ? recover.every : undefined) ?? EVERY;
    const isOverwritten = this.#course.state.writes !== this.#writes;
    if (isOverwritten || this.#done - (this.#held?.saved.step ?? 0) >= every) await this.hold();
  }

  /** Copies the state to the host's memory. */
  async hold(): Promise<RunCheckpoint> {
    return this.attempt(async (course) => {
      const state = await heldInMemory(await this.saver.capture(course.moment()));
      this.#place = course.upcoming.mark();
      this.#held = state;
      return state;
    });
  }

  /** Writes the state; that in memory where the device is lost for good. */
  async save(directory: Directory | undefined): Promise<string> {
    if (this.#losses >= MOST_LOSSES && this.#held) return this.saver.write(this.#held, directory);
    if (this.isOn) return this.saver.write(await this.hold(), directory);
    return this.saver.write(await this.saver.capture(this.#course.moment()), directory);
  }

  async #recover(first: Device, error: unknown): Promise<void> {
    let [lost, cause] = [first, error];
    for (;;) {
      if (++this.#losses >= MOST_LOSSES) throw await this.#givenUp(cause);
      try {
        await this.#goBack(lost);
        return;
      } catch (again) {
        lost = this.options.model.engine.device;
        if (!(await lost.isLost())) throw again;
        cause = again;
      }
    }
  }

  async #goBack(lost: Device): Promise<void> {
    const { model } = this.options;
    const { run, upcoming } = this.#course;
    this.#course.dispose();
    await model.engine.reopen(lost);
    await model.reload();
    const from = this.#held && { state: this.#held, file: "the state in memory" };
    const next = await openRun(this.options, { from, known: { first: run.first, start: run.start } });
    upcoming.rewind(this.#place);
    this.#course = new TrainingLoop(next, upcoming, from && (await positionOf(from.state)));
    while (this.#course.progress.step < this.#done) await this.#course.next(false);
  }

  async #givenUp(cause: unknown): Promise<DeviceError> {
    const fact = `The device was lost ${this.#losses} times in a row without a finished step: ${firstLine(cause)}`;
    const step = this.#held?.saved.step;
    if (step === undefined) return new DeviceError(fact, "Begin anew: no step was kept yet.", { cause });
    if (!this.options.checkpoints) {
      const remedy = `trainer.saveCheckpoint(directory) still writes the state after step ${step}; go on from it elsewhere.`;
      return new DeviceError(fact, remedy, { cause });
    }
    const file = await this.save(undefined);
    return new DeviceError(fact, `Go on from ${file} in ${this.options.checkpoints.name} with \`resume\`.`, { cause });
  }
}

const firstLine = (error: unknown): string =>
  error instanceof Error ? error.message.split("\n", 1)[0]! : String(error);
