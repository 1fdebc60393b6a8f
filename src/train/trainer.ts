import type { AdapterState, Tensors } from "../adapter/adapter";
import type { Batch } from "../data/batch";
import type { Progress } from "../freeze/policy";
import type { Prompt } from "../generate/generate";
import type { Continuation, GenerateOptions } from "../generate/options";
import type { Bytes } from "../gpu/ledger";
import type { Directory } from "../io/directory";
import type { Explanation } from "../tape/explain";
import type { TrainingLoop } from "./loop/training-loop";
import { evaluate } from "./evaluate";
import type { Evaluation, SeeLogits, WithParts } from "./evaluate";
import type { RunHistory } from "./loop/history";
import { withMemoryRemedy } from "./estimate/memory-remedy";
import { openRun } from "./loop/resources";
import type { TrainerOptions } from "./options";
import type { Merging } from "./freezing/merging";
import type { FreezeEvent, StepReport, TrainResult } from "./loop/reports";
import { Recovery } from "./checkpoint/recovery";
import { newLoop, resumedLoop, resumedFrom, checkpointToResume } from "./checkpoint/resume";
import type { Resumed } from "./checkpoint/resume";
import { Saver } from "./checkpoint/saver";
import type { TrainableTensors } from "./tensors/trainable-tensors";

/**
 * Fine-tunes a model with an adapter, and gives memory back as a policy freezes it. Make one with `Trainer.create`,
 * then `train()`, or walk through `steps()`.
 */
export class Trainer {
  private constructor(
    private readonly recovery: Recovery,
    private readonly saver: Saver,
    /** The checkpoint that it went on from. */
    readonly resumed: Resumed | undefined,
  ) {}

  get #course(): TrainingLoop {
    return this.recovery.course;
  }

  get options(): TrainerOptions {
    return this.#course.options;
  }

  /** Trainable tensors and their optimizer state. */
  get state(): TrainableTensors {
    return this.#course.state;
  }

  /** What the adapter counts in this run; undefined for one that counts nothing. */
  get adapterState(): AdapterState | undefined {
    return this.#course.run.adapterState;
  }

  /** LoRAs that `mergeOnFreeze` has added to the model's weights; undefined without it. */
  get merging(): Merging | undefined {
    return this.#course.merging;
  }

  /** Losses and freezes of all steps, those before a resumption included. */
  get history(): Pick<RunHistory, "losses" | "freezes" | "skipped"> {
    return this.#course.history;
  }

  /** Most GPU bytes that were live at once, by lifetime at that moment; before a resumption too. */
  get peak(): Bytes {
    return this.#course.history.peak(this.options.model.engine.ledger);
  }

  /**
   * Plans the run, checks the budget, allocates; goes on from a checkpoint where `resume` says so.
   * @throws MemoryBudgetError before anything is allocated when the plan needs more than `memoryBudget`; ConfigError,
   * DataError, FileFormatError or DeviceError with GPU memory as it was.
   */
  static async create(options: TrainerOptions): Promise<Trainer> {
    const from = await checkpointToResume(options);
    const run = await openRun(options, { from });
    const saver = new Saver(run.options);
    const course = from ? await resumedLoop(run, from.state) : newLoop(run);
    const recovery = new Recovery(options, saver, course, from?.state);
    return new Trainer(recovery, saver, from && (await resumedFrom(from)));
  }

  get progress(): Progress {
    return this.#course.progress;
  }

  /** GPU bytes that the plans say this run occupies between steps, by lifetime; equals the ledger. */
  predictedBytes(): Bytes {
    return this.#course.predictedBytes();
  }

  /**
   * What a step keeps from forward to backward, and for which gradient.
   * @param change tensors that are imagined frozen beside those that are: names, or parts of names.
   */
  explain(change: { readonly frozen?: readonly string[] } = {}): Explanation {
    const frozen = change.frozen ?? [];
    const live = [...this.state.live.keys()].filter((name) => !frozen.some((part) => name.includes(part)));
    return this.#course.run.book.explain(new Set(live));
  }

  /** Runs to the end. */
  async train(onStep?: (report: StepReport) => void): Promise<TrainResult> {
    for await (const report of this.steps({ ahead: true })) onStep?.(report);
    return this.#course.history.result(this.options.model.engine, this.policyRecord());
  }

  /**
   * One optimizer step after the other. Breaking off the loop leaves the trainer usable.
   * @param options.ahead whether the device may begin the next step's gradients before a report is here, so that it does
   * not wait for the loop; what `state` has as gradients is then not of the step that was reported. Default false.
   */
  async *steps({ ahead = false }: { readonly ahead?: boolean } = {}): AsyncGenerator<StepReport, void, undefined> {
    const { totalSteps } = this.progress;
    while (this.#course.isUnfinished) {
      await this.recovery.holdIfDue();
      yield await this.recovery.attempt((course) => course.next(ahead));
      // Not before the caller has seen the step: what it keeps beside the run is then of the same moment.
      if (this.saver.isDue(this.progress.step, totalSteps)) await this.saveCheckpoint();
    }
  }

  /**
   * Saves the run as it is between two steps, to be gone on with by `resume`, and gives the file's name.
   * @param directory default the option `checkpoints`.
   * @throws FileFormatError where it cannot be written; what was there before stays, and the trainer can be used.
   */
  async saveCheckpoint(directory?: Directory): Promise<string> {
    return this.recovery.save(directory);
  }

  /** Copies the adapter's and all trained tensors to the host, by name. */
  async snapshot(): Promise<Tensors> {
    return this.recovery.attempt((course) => course.state.snapshot());
  }

  /** Lowest transformer layer whose adapter still learns. */
  get horizon(): number | undefined {
    return this.state.horizon;
  }

  /**
   * Freezes tensors for good: plans anew and returns to the driver what only the old plan held.
   * @throws ConfigError for a tensor that this run does not train; OutOfMemoryError where the driver has no memory for the
   * new plan: the tensors are frozen then, and the next step, or another call, plans again.
   */
  async freeze(names: readonly string[]): Promise<FreezeEvent> {
    const event = await this.recovery.attempt((course) => course.freeze(names));
    await this.#holdChange();
    return event;
  }

  /** What the caller changed between two steps would not be repeated with them. */
  async #holdChange(): Promise<void> {
    if (this.recovery.isOn) await this.recovery.hold();
  }

  /** Loss and predictions on other batches, without dropout; `see` is given each batch's logits. */
  async evaluate(batches: Iterable<Batch>, see?: SeeLogits): Promise<Evaluation> {
    const withParts: WithParts = (body) =>
      this.recovery.attempt(async (course, onProgress) => body(await course.parts(), onProgress));
    return withMemoryRemedy(this.#course.run, async () => {
      return evaluate(await this.recovery.attempt((course) => course.parts()), withParts, batches, see);
    });
  }

  /** Continues prompts with the model as it is now; throws as `generate` does. */
  async generate(prompts: readonly Prompt[], options: GenerateOptions = {}): Promise<Continuation[]> {
    return this.recovery.attempt((course) => course.generate(prompts, options));
  }

  /** Takes merged LoRAs out of the weights again, to their very bits, and merges no more. */
  async unmerge(): Promise<void> {
    await this.recovery.attempt((course) => course.unmerge());
    await this.#holdChange();
  }

  /** The policy's options and findings so far. */
  policyRecord(): Readonly<Record<string, unknown>> {
    const { policy, state } = this.#course.run.policy;
    return { name: policy.name, ...policy.settings, ...state.record?.() };
  }

  /** Returns the run's memory. The loaded model stays. */
  dispose(): void {
    this.#course.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
