import { ConfigError } from "../../base/errors";
import type { Progress } from "../../freeze/policy";
import type { Prompt } from "../../generate/generate";
import { continueTexts } from "../../generate/later";
import type { Continuation, GenerateOptions } from "../../generate/options";
import type { Device } from "../../gpu/device";
import type { Bytes } from "../../gpu/ledger";
import type { Plan } from "../../tape/plan";
import type { EvaluationParts } from "../evaluate";
import { checkFreeze } from "../freezing/context";
import { policyContext, footprintOf } from "./run-context";
import type { Footprint } from "./run-context";
import { RunHistory } from "./history";
import { footprint, OfPlans } from "../plans/footprint";
import type { Merging } from "../freezing/merging";
import { withMemoryRemedy } from "../estimate/memory-remedy";
import { nextBatches } from "../step/next-batches";
import { SkippedSteps } from "./skipped-steps";
import type { RunResources } from "./resources";
import { optimizerSettings } from "../plans/optimizer-plan";
import type { OptimizerSettings } from "../plans/optimizer-plan";
import { runLength } from "../estimate/run-length";
import type { TrainerOptions } from "../options";
import { PendingWork } from "./pending-work";
import { prune } from "../freezing/initial-masks";
import { freezeEffect } from "./reports";
import type { FreezeEvent, PolicyScores, StepReport } from "./reports";
import { stepReport } from "./step-report";
import type { TakenStep } from "./step-report";
import type { Moment } from "../checkpoint/saver";
import { scheduleFactor } from "./learning-rate";
import type { TrainableTensors } from "../tensors/trainable-tensors";
import { stepPrefix } from "../step/prefix/step-prefix";
import { StepRunner } from "../step/step-runner";
import type { ComingStep } from "../step/step-runner";
import type { BatchQueue } from "../step/batch-queue";

/** How far a run is. */
export interface LoopPosition {
  readonly step: number;
  readonly hasBegun: boolean;
  readonly history: RunHistory;
  /** Freezes that no report has told of yet. */
  readonly untold: readonly FreezeEvent[];
}

const START: LoopPosition = { step: 0, hasBegun: false, history: new RunHistory(), untold: [] };

/** A run on its way: one optimizer step after the other, and what may be done between them. */
export class TrainingLoop {
  /** What it runs on. */
  readonly device: Device;
  readonly #optimizer: OptimizerSettings;
  readonly #counts: ReturnType<typeof runLength>;
  readonly #stepper: StepRunner;
  readonly #history: RunHistory;
  readonly #skips: SkippedSteps;
  /** What is left to do before the next step. */
  readonly #phases = new PendingWork();
  /** The step that was applied and is not reported yet. */
  #taken: TakenStep | undefined;
  /** What the policy has chosen to freeze. */
  #chosen: readonly string[] | undefined;
  /** How the run stood when a freeze began. */
  #freezing: { readonly layers: readonly number[]; readonly was: Footprint } | undefined;
  #step: number;
  #hasBegun: boolean;
  #isDisposed = false;
  /** Freezes that no report has told of yet. */
  readonly #freezes: FreezeEvent[];
  #scores: PolicyScores | undefined;
  readonly #planned = new OfPlans<Bytes>();

  constructor(
    readonly run: RunResources,
    readonly upcoming: BatchQueue,
    { step, hasBegun, history, untold }: LoopPosition = START,
  ) {
    const { options } = run;
    this.device = options.model.engine.device;
    this.#optimizer = optimizerSettings(options.optimizer);
    this.#counts = runLength(options);
    this.#stepper = new StepRunner(run);
    this.#history = new RunHistory(history.losses, history.told);
    this.#skips = new SkippedSteps(options);
    [this.#step, this.#hasBegun, this.#freezes] = [step, hasBegun, [...untold]];
    if (!hasBegun) this.#begin();
  }

  get options(): TrainerOptions {
    return this.run.options;
  }

  get state(): TrainableTensors {
    return this.run.state;
  }

  get merging(): Merging | undefined {
    return this.run.merging;
  }

  get history(): RunHistory {
    return this.#history;
  }

  get #plans(): Plan[] {
    return [...this.run.book.plans, ...this.run.updates.plans];
  }

  get progress(): Progress {
    return { step: this.#step, totalSteps: this.#counts.totalSteps, stepsPerEpoch: this.#counts.stepsPerEpoch };
  }

  /** Whether a step is left to run, or to report. */
  get isUnfinished(): boolean {
    return this.#taken !== undefined || this.#step < this.#counts.totalSteps;
  }

  /** Whether nothing of the last step is left to do. */
  get isBetweenSteps(): boolean {
    return !this.#taken && !this.#phases.isHalfDone;
  }

  /**
   * The run between two steps, as a checkpoint keeps it.
   * @throws ConfigError where memory ran out in the midst of what follows a step.
   */
  moment(): Moment {
    if (!this.isBetweenSteps) {
      throw new ConfigError("What follows the last step was refused half way.", "Go on with steps(), then save.");
    }
    const stand = { step: this.#step, hasBegun: this.#hasBegun, untold: [...this.#freezes], history: this.#history };
    return { run: this.run, upcoming: this.upcoming, ...stand };
  }

  /** GPU bytes that the plans say this run occupies between steps, by lifetime; equals the ledger. */
  predictedBytes(): Bytes {
    const { model, adapter } = this.options;
    const { live, specs } = this.state;
    return footprint(model.model, adapter, live, this.#plans, specs, (name) => this.state.companions(name).length);
  }

  /** What a policy wants before the first step. */
  #begin(): void {
    this.#phases.add(
      () => this.#prune(),
      () => this.#consultPolicy(),
      () => Promise.resolve(void (this.#hasBegun = true)),
    );
  }

  async #prune(): Promise<void> {
    const { policy } = this.run;
    if (policy.kind !== "weight_pruning") return;
    const batches = [this.run.first];
    const gradients = async (): Promise<void> => {
      const { inputs: below } = await stepPrefix(this.run, batches);
      await this.#stepper.gradients({ step: this.#step, batches, dropped: [], below });
    };
    await prune(policy.state, { state: this.state, gradients });
    this.run.updates.rebuild();
  }

  /** Runs the next step, or what is left of an applied one; with `ahead` the gradients of the one after it may begin. */
  next(ahead: boolean): Promise<StepReport> {
    return withMemoryRemedy(this.run, () => this.#next(ahead));
  }

  async #next(ahead: boolean): Promise<StepReport> {
    await this.#phases.run();
    while (!this.#taken) {
      try {
        this.#taken = await this.#take(ahead);
      } catch (error) {
        this.#skips.note(error);
      }
    }
    await this.#phases.run();
    const taken = this.#taken;
    this.#taken = undefined;
    const told = { scores: this.#scores, freezes: this.#freezes.splice(0), skipped: this.#skips.tell() };
    const after = {
      ...this.progress,
      horizon: this.state.horizon,
      planned: this.#planned.get(this.#plans, () => this.predictedBytes()),
      ...told,
    };
    const report = stepReport(this.run, taken, after);
    this.#history.add(report);
    return report;
  }

  /** Applies a step, and says what has to follow it. */
  async #take(ahead: boolean): Promise<TakenStep> {
    const start = performance.now();
    const { run } = this;
    const dropped = run.policy.kind === "layer_dropping" ? run.policy.state.dropped(this.progress) : [];
    await this.merging?.follow();
    const batches = await nextBatches(run, this.upcoming, dropped);
    const prefix = await stepPrefix(run, batches);
    const learningRate = this.#learningRate(this.#step);
    const step = { step: this.#step, batches, dropped, learningRate, below: prefix.inputs };
    const { loss, norm, flops } = await this.#stepper.take(step, () => this.#lookAhead(ahead));
    const taken = { start, loss, gradientNorm: norm, learningRate, batches, prefix };
    this.#step++;
    this.#phases.add(
      () => run.updates.collectStatistics(run.executor, "after_update", step.step),
      () => run.updates.prune(this.progress),
      async () => run.adapterState?.afterStep(this.#step),
      () => this.#consultPolicy(),
    );
    return { ...taken, flops: flops + prefix.flops + run.updates.flops };
  }

  #learningRate(step: number): number {
    return this.#optimizer.learningRate * scheduleFactor(step, this.#counts.totalSteps, this.options.schedule);
  }

  /** The next step as far as it is known while this one runs. */
  #lookAhead(ahead: boolean): ComingStep | undefined {
    const step = this.#step + 1;
    const batches = step < this.#counts.totalSteps ? this.upcoming.look() : undefined;
    // What a policy leaves out of a step is its own to say, when the step comes; what is kept of a prefix is read then.
    const { book, policy, updates } = this.run;
    if (policy.kind === "layer_dropping" || book.prefixLayer() > 0) return undefined;
    if (!batches?.every((batch) => book.hasShape(batch))) return undefined;
    const isPolicyDue = policy.kind === "freezing" && policy.state.isDue({ ...this.progress, step });
    const mayBegin = ahead && !updates.hasObservers && !isPolicyDue;
    return { step: { step, batches, dropped: [], learningRate: this.#learningRate(step) }, mayBegin };
  }

  async #consultPolicy(): Promise<void> {
    const { policy } = this.run;
    if (!this.#chosen) {
      this.#scores = undefined;
      const see = (scores: PolicyScores): void => void (this.#scores = scores);
      const context = policyContext(this.run, this.progress, this.#optimizer, see);
      const isDue = policy.kind === "freezing" && policy.state.isDue(this.progress);
      this.#chosen = isDue ? await policy.state.decide(context) : [];
    }
    if (this.#chosen.length > 0) await this.freeze(this.#chosen);
    this.#chosen = undefined;
  }

  /**
   * Freezes tensors for good: plans anew and returns to the driver what only the old plan held.
   * @throws ConfigError for a tensor that this run does not train; OutOfMemoryError where the driver has no memory for the
   * new plan: the tensors are frozen then, and the next step, or another call, plans again.
   */
  async freeze(names: readonly string[]): Promise<FreezeEvent> {
    checkFreeze(this.state, names);
    // Where this was refused before, the freeze is told whole.
    this.#freezing ??= { layers: [...this.state.liveByLayer().keys()], was: footprintOf(this.run) };
    const { layers: before, was } = this.#freezing;
    this.state.freeze(names);
    this.run.book.freezeTo(new Set(this.state.live.keys()));
    this.run.updates.rebuild();
    await withMemoryRemedy(this.run, async () => {
      await this.merging?.follow();
      await this.run.executor.hold(this.#plans);
    });
    this.#freezing = undefined;
    const layers = before.filter((layer) => !this.state.liveByLayer().has(layer));
    const event = { step: this.#step, tensors: names, layers, ...freezeEffect(was, footprintOf(this.run)) };
    this.#freezes.push(event);
    return event;
  }

  /** Continues prompts with the model as it is now; throws as `generate` does. */
  async generate(prompts: readonly Prompt[], options: GenerateOptions = {}): Promise<Continuation[]> {
    return withMemoryRemedy(this.run, async () => continueTexts(await this.parts(), prompts, options));
  }

  /** What a forward pass beside training needs. */
  async parts(): Promise<EvaluationParts> {
    await this.merging?.follow();
    const { model: loaded } = this.options;
    const adapter = this.merging?.acting ?? this.options.adapter;
    const rows = this.options.memoryBudget === undefined ? undefined : this.run.book.choice.rows;
    return { loaded, adapter, executor: this.run.executor, store: this.state, rows };
  }

  /** Takes merged LoRAs out of the weights again, to their very bits, and merges no more. */
  async unmerge(): Promise<void> {
    if (!this.merging) return;
    this.merging.unmerge();
    this.run.book.freezeTo(new Set(this.state.live.keys()));
    await this.run.executor.hold(this.#plans);
  }

  /** Returns the run's memory. The loaded model stays. */
  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.merging?.dispose();
    this.run.executor.dispose();
    this.state.dispose();
    this.run.cache?.dispose();
  }
}
