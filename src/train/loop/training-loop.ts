import type { Batch } from "../../data/batch";
import type { Progress } from "../../freeze/policy";
import { continueTexts } from "../../generate/generate";
import type { Continuation, GenerateOptions, Prompt } from "../../generate/options";
import type { Device } from "../../gpu/device";
import type { Bytes } from "../../gpu/ledger";
import { ConfigError } from "../../base/errors";
import type { EvaluationParts } from "../evaluate";
import { withMemoryRemedy } from "../estimate/memory-remedy";
import { runLength } from "../estimate/run-length";
import type { RunLength } from "../estimate/run-length";
import { footprint, OfPlans } from "../plans/footprint";
import type { BatchQueue } from "../step/batch-queue";
import { drawBatches } from "../step/draw-batches";
import { heldPlans, holdPlans } from "../step/optimizer-plans";
import type { NextStep } from "../step/look-ahead";
import { stepPrefix } from "../step/prefix/step-prefix";
import { StepRunner } from "../step/step-runner";
import { AfterStep } from "./after-step";
import { RunHistory } from "./history";
import { scheduleFactor } from "./learning-rate";
import { stepReport } from "./reports";
import type { AppliedStep, FreezeEvent, StepReport } from "./reports";
import type { RunResources } from "./resources";
import { SkippedSteps } from "./skipped-steps";
import { warnBy } from "./warnings";

/** How far a run has come. */
export interface LoopPosition {
  /** Optimizer steps done. */
  readonly step: number;
  /** Whether what precedes the first step is done. */
  readonly hasBegun: boolean;
  readonly history: RunHistory;
  /** Freezes that no step report contains yet. */
  readonly unreportedFreezes: readonly FreezeEvent[];
}

/**
 * Runs one optimizer step after another, and whatever happens between two of them. A step
 *
 * 1. draws its batches, once the LoRAs that were frozen are merged into their weights;
 * 2. reads or computes the input of the layer that it begins with, where a cached prefix lets it skip the layers below;
 * 3. computes the gradients and applies the update on the device, while the host prepares the step after it;
 * 4. is followed by statistics of the gradients, structural pruning, the adapter's own state, and the policy with its
 *    freezes (`AfterStep`);
 * 5. is reported.
 *
 * A step whose loss or gradients are not finite changes nothing; it is an error or is skipped (`SkippedSteps`).
 */
export class TrainingLoop {
  readonly device: Device;
  readonly #length: RunLength;
  readonly #runner: StepRunner;
  readonly #afterStep: AfterStep;
  readonly #skippedSteps: SkippedSteps;
  readonly #history: RunHistory;
  readonly #predictedBytes = new OfPlans<Bytes>();
  /** The last step, until it is reported. */
  #applied: AppliedStep | undefined;
  #step: number;
  #hasBegun: boolean;
  #isDisposed = false;

  /** @param position where a resumed run continues; default the start. */
  constructor(
    readonly resources: RunResources,
    readonly queue: BatchQueue,
    position: LoopPosition = { step: 0, hasBegun: false, history: new RunHistory(), unreportedFreezes: [] },
  ) {
    const { options } = resources;
    this.device = options.model.engine.device;
    this.#length = runLength(options);
    this.#runner = new StepRunner(resources);
    this.#skippedSteps = new SkippedSteps(options);
    this.#step = position.step;
    this.#hasBegun = position.hasBegun;
    this.#history = position.history.copy();
    this.#afterStep = new AfterStep(resources, {
      progress: () => this.progress,
      note: (text) => this.#note(text),
      unreportedFreezes: position.unreportedFreezes,
    });
    if (!this.#hasBegun) {
      const computeGradients = (): Promise<void> => this.#computeGradients([resources.first]);
      this.#afterStep.scheduleStart(computeGradients, () => (this.#hasBegun = true));
    }
  }

  /**
   * Runs the next optimizer step, or completes the last one where what follows it failed.
   * @param ahead whether the gradients of the step after it may be computed before that step is requested.
   */
  step(ahead: boolean): Promise<StepReport> {
    return withMemoryRemedy(this.resources, async () => {
      await this.#afterStep.run();
      while (!this.#applied) {
        await this.#apply(ahead).catch((error: unknown) => this.#skippedSteps.add(error));
      }
      await this.#afterStep.run();
      return this.#report();
    });
  }

  /** One step, from its batches to updated tensors. */
  async #apply(ahead: boolean): Promise<void> {
    const startTime = performance.now();
    const { resources, queue } = this;
    const { policy } = resources;
    const droppedLayers = policy.kind === "layer_dropping" ? policy.state.dropped(this.progress) : [];
    await resources.merging?.mergeFrozen();
    const batches = await drawBatches({ ...resources, queue }, droppedLayers);
    const prefix = await stepPrefix(resources, batches);
    const scheduleFactor = this.#scheduleFactor(this.#step);
    const step = { index: this.#step, batches, droppedLayers, scheduleFactor, prefixInputs: prefix.inputs };
    const { loss, gradientNorm, flops } = await this.#runner.run(step, () => this.#nextStep(ahead));
    const allFlops = prefix.flops + flops + resources.updates.flops;
    const learningRate = scheduleFactor * resources.updates.learningRate;
    this.#applied = { loss, gradientNorm, flops: allFlops, startTime, learningRate, batches, prefix };
    this.#step++;
    this.#afterStep.schedule(step.index);
  }

  /** The step after the one that runs now; undefined where that is not known before it is requested. */
  #nextStep(ahead: boolean): NextStep | undefined {
    const { book, policy, updates } = this.resources;
    const index = this.#step + 1;
    // Layers are dropped when a step is requested, and a cached prefix is read then.
    const isKnown = index < this.#length.totalSteps && policy.kind !== "layer_dropping" && book.prefixLayer() === 0;
    if (!isKnown) return undefined;
    const batches = this.queue.peek();
    if (!batches?.every((batch) => book.hasShape(batch))) return undefined;
    const isPolicyDue = policy.kind === "freezing" && policy.state.isDue({ ...this.progress, step: index });
    const mayBegin = ahead && !updates.hasObservers && !isPolicyDue;
    return { step: { index, batches, droppedLayers: [], scheduleFactor: this.#scheduleFactor(index) }, mayBegin };
  }

  #report(): StepReport {
    const applied = this.#applied!;
    this.#applied = undefined;
    const planned = this.#predictedBytes.get(heldPlans(this.resources), () => this.predictedBytes());
    const skipped = this.#skippedSteps.take();
    const report = stepReport(this.resources, applied, this.progress, {
      ...this.#afterStep.takeReport(),
      planned,
      skipped,
    });
    this.#history.add(report);
    return report;
  }

  #scheduleFactor(step: number): number {
    return scheduleFactor(step, this.#length.totalSteps, this.options.schedule);
  }

  async #computeGradients(batches: readonly Batch[]): Promise<void> {
    const { inputs } = await stepPrefix(this.resources, batches);
    await this.#runner.computeGradients({ index: this.#step, batches, droppedLayers: [], prefixInputs: inputs });
  }

  /** Records a note about the policy, and warns of it. */
  #note(text: string): void {
    if (this.#history.note(text)) warnBy(this.options)(text);
  }

  get options(): RunResources["options"] {
    return this.resources.options;
  }

  get history(): RunHistory {
    return this.#history;
  }

  get progress(): Progress {
    const { totalSteps, stepsPerEpoch } = this.#length;
    return { step: this.#step, totalSteps, stepsPerEpoch };
  }

  /** Whether a step is left to run or to report. */
  get isUnfinished(): boolean {
    return this.#applied !== undefined || this.#step < this.#length.totalSteps;
  }

  /** Whether the last step and all that follows it are complete. */
  get isBetweenSteps(): boolean {
    return !this.#applied && !this.#afterStep.isPartlyDone;
  }

  /**
   * How far the run has come, for a checkpoint.
   * @throws ConfigError where memory ran out during what follows a step.
   */
  position(): LoopPosition {
    if (!this.isBetweenSteps) {
      throw new ConfigError(
        "The last step is not complete: memory ran out after it.",
        "Continue with steps(), then save.",
      );
    }
    const unreportedFreezes = [...this.#afterStep.unreportedFreezes];
    return { step: this.#step, hasBegun: this.#hasBegun, history: this.#history, unreportedFreezes };
  }

  /** GPU bytes that the run occupies between steps by its plans, by lifetime. Equals the ledger. */
  predictedBytes(): Bytes {
    const { options, state } = this.resources;
    const { model } = options.model;
    return footprint(model, options.adapter, heldPlans(this.resources), (name) => state.companions(name));
  }

  /** Freezes tensors for good. Throws as `AfterStep.freeze`. */
  freeze(tensors: readonly string[]): Promise<FreezeEvent> {
    return this.#afterStep.freeze(tensors);
  }

  /** Continues prompts with the current model; throws as `generate` does. */
  generate(prompts: readonly Prompt[], options: GenerateOptions = {}): Promise<Continuation[]> {
    return withMemoryRemedy(this.resources, async () => continueTexts(await this.evaluationParts(), prompts, options));
  }

  /** What a forward pass in addition to training needs. */
  async evaluationParts(): Promise<EvaluationParts> {
    const { merging, executor, state, book } = this.resources;
    await merging?.mergeFrozen();
    const { model: loaded, adapter, memory, loss } = this.options;
    const rows = memory?.budget === undefined ? undefined : book.choice.rows;
    return { loaded, adapter: merging?.unmergedAdapter ?? adapter, executor, store: state, rows, loss };
  }

  /**
   * Restores the exact weights from before merging, and merges no more.
   * @throws MemoryBudgetError, with everything as it was, where steps without merged weights do not fit into the budget.
   */
  async unmerge(): Promise<void> {
    const { merging, book } = this.resources;
    if (!merging) return;
    merging.choice.isOn = false;
    try {
      book.replan();
    } catch (error) {
      merging.choice.isOn = true;
      throw error;
    }
    merging.unmerge();
    await holdPlans(this.resources);
  }

  /** Returns the run's memory. The loaded model stays. */
  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    const { merging, compaction, executor, state, cache } = this.resources;
    merging?.dispose();
    executor.dispose();
    state.dispose();
    compaction?.restore();
    cache?.dispose();
  }
}
