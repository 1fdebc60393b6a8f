import { ConfigError } from "../base/errors";
import type { AdapterState, Tensors } from "../adapter/adapter";
import type { Batch } from "../data/batch";
import type { Progress } from "../freeze/policy";
import type { Continuation, GenerateOptions, Prompt } from "../generate/options";
import type { Bytes } from "../gpu/ledger";
import type { DirectoryLike } from "../io/directory-like";
import type { Trace } from "../run/trace";
import type { Explanation } from "../tape/explain";
import { openFirst, openLoop, resumptionOf } from "./checkpoint/open-loop";
import { Recovery } from "./checkpoint/recovery";
import type { Resumed } from "./checkpoint/resume";
import { Saver } from "./checkpoint/saver";
import { withMemoryRemedy } from "./estimate/memory-remedy";
import { checkOptionKeys } from "./estimate/option-keys";
import { evaluate } from "./evaluate";
import type { Evaluation, SeeLogits, WithParts } from "./evaluate";
import type { Compaction } from "./freezing/compaction";
import type { Merging } from "./freezing/merging";
import type { RunHistory } from "./loop/history";
import { launchRecords } from "./loop/reports";
import type { FreezeEvent, LaunchRecord, StepReport, TrainResult } from "./loop/reports";
import type { TrainingLoop } from "./loop/training-loop";
import type { TrainerOptions } from "./options";
import type { TrainableTensors } from "./tensors/trainable-tensors";

export interface StepsOptions {
  readonly ahead?: boolean;
  readonly traced?: { readonly step: number; readonly see: (trace: Trace) => unknown } | undefined;
}

/** What a trainer is made from. */
interface OpenedRun {
  readonly recovery: Recovery;
  readonly saver: Saver;
  readonly resumed: Resumed | undefined;
}

/**
 * Fine-tunes a model with an adapter, and gives memory back as a policy freezes the adapter. Make one with
 * `Trainer.create`, then call `train()`, or iterate over `steps()`.
 */
export class Trainer {
  private readonly recovery: Recovery;
  private readonly saver: Saver;
  /** The checkpoint that this run resumed from. */
  readonly resumed: Resumed | undefined;

  protected constructor({ recovery, saver, resumed }: OpenedRun) {
    this.recovery = recovery;
    this.saver = saver;
    this.resumed = resumed;
  }

  /**
   * Plans the run, checks its budget and allocates its memory; resumes from a checkpoint where `checkpoints.resume` says so.
   * @throws MemoryBudgetError before anything is allocated where the plan needs more than `memory.budget`; ConfigError,
   * DataError, FileFormatError or DeviceError with GPU memory as it was.
   */
  static async create(options: TrainerOptions): Promise<Trainer> {
    return new Trainer(await Trainer.open(options));
  }

  protected static async open(options: TrainerOptions): Promise<OpenedRun> {
    checkOptionKeys(options);
    const resumption = await resumptionOf(options);
    const resources = await openFirst(options, resumption);
    const saver = new Saver(resources.options);
    const loop = await openLoop(resources, resumption?.checkpoint);
    const recovery = new Recovery(options, saver, loop, resumption?.checkpoint);
    return { recovery, saver, resumed: resumption?.resumed };
  }

  get #loop(): TrainingLoop {
    return this.recovery.loop;
  }

  get options(): TrainerOptions {
    return this.#loop.options;
  }

  /** Trainable tensors and their optimizer state. */
  get state(): TrainableTensors {
    return this.#loop.resources.state;
  }

  /** What the adapter counts in this run; undefined for an adapter without state. */
  get adapterState(): AdapterState | undefined {
    return this.#loop.resources.adapterState;
  }

  /**
   * LoRAs that `mergeOnFreeze` has added to the model's weights; undefined without it.
   * @internal
   */
  get merging(): Merging | undefined {
    return this.#loop.resources.merging;
  }

  /**
   * Heads and neurons that are cut out of the tensors; undefined without a policy that prunes them.
   * @internal
   */
  get compaction(): Compaction | undefined {
    return this.#loop.resources.compaction;
  }

  /** Losses, freezes, skipped steps and notes of the run, including those before a resumption. */
  get history(): Pick<RunHistory, "losses" | "freezes" | "skipped" | "notes"> {
    return this.#loop.history;
  }

  /** Most GPU bytes that were live at the same time, by lifetime at that moment, including before a resumption. */
  get peak(): Bytes {
    return this.#loop.history.peak(this.options.model.engine.ledger);
  }

  get progress(): Progress {
    return this.#loop.progress;
  }

  /** GPU bytes that this run occupies between steps by its plans, by lifetime. Equals the ledger. */
  predictedBytes(): Bytes {
    return this.#loop.predictedBytes();
  }

  /**
   * What a step keeps from forward to backward, and for which gradient.
   * @param change tensors to treat as frozen in addition to those that are: names, or parts of names.
   */
  explain(change: { readonly frozen?: readonly string[] } = {}): Explanation {
    const frozen = change.frozen ?? [];
    const live = [...this.state.live.keys()].filter((name) => !frozen.some((part) => name.includes(part)));
    return this.#loop.resources.book.explain(new Set(live));
  }

  /**
   * The launches of a step with the largest batch, in order: forward pass, backward pass, update. A micro-batch has its own
   * forward and backward pass. A device may choose another kernel for a launch, or run two launches as one.
   */
  launches(): LaunchRecord[] {
    return launchRecords(this.#loop.resources);
  }

  /** Runs all remaining steps. */
  async train(onStep?: (report: StepReport) => void): Promise<TrainResult> {
    for await (const report of this.steps({ ahead: true })) onStep?.(report);
    return this.#loop.history.result(this.options.model.engine, this.policyRecord());
  }

  /**
   * Runs one optimizer step after another. A loop over it may be left at any step; the trainer stays usable.
   * @param options.ahead whether the device may begin the next step's gradients before this step's report is delivered, so
   * that it does not wait for the caller. The gradients in `state` are then not those of the reported step. Default false.
   * @param options.traced number of a step to run dispatch by dispatch, and what receives their times.
   */
  async *steps({ ahead = false, traced }: StepsOptions = {}): AsyncGenerator<StepReport, void, undefined> {
    while (this.#loop.isUnfinished) {
      await this.recovery.copyIfDue();
      await this.recovery.meetOthers();
      const isTraced = traced?.step === this.progress.step + 1;
      yield await (isTraced ? this.#traced(traced.see) : this.recovery.attempt((loop) => loop.step(ahead)));
      // After the caller has seen the step, so that the program's own data in the checkpoint are of the same moment.
      const { step, totalSteps } = this.progress;
      const { world } = this.#loop.resources;
      if (this.saver.isDue(step, totalSteps) && world?.leads !== false) await this.saveCheckpoint();
    }
  }

  async #traced(see: (trace: Trace) => unknown): Promise<StepReport> {
    return this.recovery.attempt(async (loop) => {
      const { result, trace } = await loop.resources.executor.trace(() => loop.step(false));
      await see(trace);
      return result;
    });
  }

  /**
   * Runs the next step dispatch by dispatch, and returns what it dispatched, with the time of each: `String(trace)` is a table.
   * @throws ConfigError after the last step.
   */
  async trace(): Promise<Trace> {
    let found: Trace | undefined;
    const traced = { step: this.progress.step + 1, see: (trace: Trace) => void (found = trace) };
    for await (const { step } of this.steps({ traced })) if (step >= traced.step) break;
    if (found) return found;
    throw new ConfigError("There is no step left to trace.", "Trace one before train() ends, or give more steps.");
  }

  /**
   * Saves the run between two steps, so that `checkpoints.resume` can continue it, and returns the file's name.
   * @param directory default `checkpoints.directory`.
   * @throws FileFormatError where it cannot be written; earlier checkpoints stay, and the trainer stays usable.
   */
  async saveCheckpoint(directory?: DirectoryLike): Promise<string> {
    return this.recovery.save(directory);
  }

  /** Copies the adapter's and all trained tensors to the host, by name. */
  async snapshot(): Promise<Tensors> {
    return this.recovery.attempt((loop) => loop.resources.state.snapshot());
  }

  /** Overwrites trained tensors with those of a `snapshot`; the optimizer's moments stay. Throws as `state.restore`. */
  async restore(tensors: Tensors): Promise<void> {
    this.state.restore(tensors);
    await this.#copyChange();
  }

  /**
   * Lowest layer through which the backward pass runs: that of the lowest tensor that learns, and 0 while something below
   * the layers does. Undefined where backward ends in the head.
   */
  get horizon(): number | undefined {
    return this.#loop.resources.book.horizon;
  }

  /**
   * Freezes tensors for good: plans again and returns to the driver the memory that only the old plans held.
   * @throws ConfigError for a tensor that this run does not train; OutOfMemoryError where the driver has no memory for the
   * new plans: the tensors are frozen then, and the next step, or another call, plans again.
   */
  async freeze(names: readonly string[]): Promise<FreezeEvent> {
    const event = await this.recovery.attempt((loop) => loop.freeze(names));
    await this.#copyChange();
    return event;
  }

  /** A change by the caller between two steps is not repeated after a device loss; a copy of the run contains it. */
  async #copyChange(): Promise<void> {
    if (this.recovery.isOn) await this.recovery.copy();
  }

  /** Loss and predictions on other batches, without dropout. `see` receives each batch's logits. */
  async evaluate(batches: Iterable<Batch>, see?: SeeLogits): Promise<Evaluation> {
    const withParts: WithParts = (body) =>
      this.recovery.attempt(async (loop, onProgress) => body(await loop.evaluationParts(), onProgress));
    return withMemoryRemedy(this.#loop.resources, async () => {
      return evaluate(await this.recovery.attempt((loop) => loop.evaluationParts()), withParts, batches, see);
    });
  }

  /** Continues prompts with the current model, within the memory budget; throws as `generate` does. */
  async generate(prompts: readonly Prompt[], options: GenerateOptions = {}): Promise<Continuation[]> {
    return this.recovery.attempt((loop) => loop.generate(prompts, options));
  }

  /** Restores the exact weights from before merging, and merges no more. */
  async unmerge(): Promise<void> {
    await this.recovery.attempt((loop) => loop.unmerge());
    await this.#copyChange();
  }

  /** The policy's options and findings so far, and notes about it where there are any. */
  policyRecord(): Readonly<Record<string, unknown>> {
    const { policy, state } = this.#loop.resources.policy;
    const record = { name: policy.name, ...policy.settings, ...state.record?.() };
    const { notes } = this.history;
    return notes.length > 0 ? { ...record, notes } : record;
  }

  /** Returns the run's memory. The loaded model stays. */
  dispose(): void {
    this.#loop.dispose();
    void this.#loop.resources.world?.leave();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
