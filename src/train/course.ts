import type { Batch } from "../data/batch";
import { never } from "../freeze/never";
import type { FreezePolicy, Progress } from "../freeze/policy";
import { continueTexts } from "../generate/generate";
import type { Prompt } from "../generate/generate";
import type { Continuation, GenerateOptions } from "../generate/options";
import type { Device } from "../gpu/device";
import type { Bytes } from "../gpu/ledger";
import type { Plan } from "../tape/plan";
import { adapterRun } from "./adapter-run";
import type { EvaluationParts } from "./evaluate";
import { checkFreeze, freezeContext } from "./freezing";
import { RunHistory } from "./history";
import { memoryOf } from "./memory";
import type { Merging } from "./merging";
import type { TrainerRun } from "./open-run";
import { optimizerSettings } from "./optimizer";
import type { OptimizerSettings } from "./optimizer";
import { countSteps } from "./options";
import type { TrainerOptions } from "./options";
import { prune } from "./prune";
import { freezeEffect } from "./report";
import type { FreezeEvent, PolicyScores, StepReport } from "./report";
import type { Moment } from "./saver";
import { scheduleFactor } from "./schedule";
import type { TrainState } from "./state";
import { statisticsOf } from "./statistics";
import { stepPrefix } from "./step-prefix";
import { Stepper } from "./stepper";
import type { Step } from "./stepper";
import type { Upcoming } from "./upcoming";

/** How far a run is. */
export interface CourseStand {
  readonly step: number;
  readonly hasBegun: boolean;
  readonly history: RunHistory;
  /** Freezes that no report has told of yet. */
  readonly untold: readonly FreezeEvent[];
}

const START: CourseStand = { step: 0, hasBegun: false, history: new RunHistory(), untold: [] };

/** A run on its way: one optimizer step after the other, and what may be done between them. */
export class Course {
  /** What it runs on. */
  readonly device: Device;
  readonly #optimizer: OptimizerSettings;
  readonly #policy: FreezePolicy;
  readonly #counts: ReturnType<typeof countSteps>;
  readonly #stepper: Stepper;
  readonly #history: RunHistory;
  #step: number;
  #hasBegun: boolean;
  #isDisposed = false;
  /** Freezes that no report has told of yet. */
  readonly #freezes: FreezeEvent[];
  #scores: PolicyScores | undefined;

  constructor(
    readonly run: TrainerRun,
    readonly upcoming: Upcoming,
    { step, hasBegun, history, untold }: CourseStand = START,
  ) {
    const { options } = run;
    this.device = options.model.engine.device;
    this.#optimizer = optimizerSettings(options.optimizer);
    this.#policy = options.policy ?? never();
    this.#counts = countSteps(options);
    this.#stepper = new Stepper(run);
    this.#history = new RunHistory(history.losses, history.told);
    [this.#step, this.#hasBegun, this.#freezes] = [step, hasBegun, [...untold]];
  }

  get options(): TrainerOptions {
    return this.run.options;
  }

  get state(): TrainState {
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

  /** The run between two steps, as a checkpoint keeps it. */
  moment(): Moment {
    const { run, upcoming } = this;
    const [step, hasBegun, untold] = [this.#step, this.#hasBegun, [...this.#freezes]];
    return { run, upcoming, step, hasBegun, untold, history: this.#history };
  }

  /** GPU bytes that the plans say this run occupies between steps, by lifetime; equals the ledger. */
  predictedBytes(): Bytes {
    const { model, adapter } = this.options;
    const { live, specs } = this.state;
    return memoryOf(model.model, adapter, live, this.#plans, specs, (name) => this.state.companions(name).length);
  }

  /** What a policy wants before the first step. */
  async #begin(): Promise<void> {
    const { first } = this.run;
    if (this.#policy.prune) {
      const { state } = this;
      const gradients = async (): Promise<void> => {
        const { inputs: below } = await stepPrefix(this.run, [first]);
        await this.#stepper.gradients({ step: this.#step, batches: [first], dropped: [], below });
      };
      await prune(this.#policy, { state, gradients });
      this.run.updates.rebuild();
      await this.run.executor.hold(this.#plans);
    }
    await this.#consultPolicy();
    this.#hasBegun = true;
  }

  /** Runs the next step. */
  async next(): Promise<StepReport> {
    if (!this.#hasBegun) await this.#begin();
    const start = performance.now();
    const dropped = this.#policy.dropped?.(this.progress, this.options.model.model.layers) ?? [];
    const batches = await this.#nextBatches(dropped);
    await this.merging?.follow();
    const prefix = await stepPrefix(this.run, batches);
    const learningRate = this.#learningRate(this.#step);
    const step = { step: this.#step, batches, dropped, learningRate, below: prefix.inputs };
    const { loss, norm, flops } = await this.#stepper.take(step, () => this.#lookAhead());
    const updateFlops = this.run.updates.flops;
    await this.run.updates.follow(this.run.executor, "after_update", this.#step);
    this.#step++;
    await this.run.updates.prune(this.progress);
    await this.options.adapter.afterStep?.(adapterRun(this.state, this.options, this.progress));
    await this.#consultPolicy();
    const seconds = (performance.now() - start) / 1000;
    const rows = batches.reduce((sum, batch) => sum + batch.rows, 0);
    const { totalSteps, stepsPerEpoch } = this.#counts;
    const report = {
      ...{ step: this.#step, totalSteps, epoch: this.#step / stepsPerEpoch, loss, learningRate },
      ...{ gradientNorm: norm, seconds, examplesPerSecond: rows / seconds },
      ...{ scores: this.#scores, freezes: this.#freezes.splice(0) },
      flops: flops + prefix.flops + updateFlops,
      ...{ bytes: this.device.pool.ledger.live, planned: this.predictedBytes() },
      horizon: this.horizon,
      frozenTensors: this.state.frozen.length,
      rowsAtOnce: this.run.book.choice.rows,
      recomputed: this.run.book.choice.sections.size,
      prefix: prefix.report,
    };
    this.#history.add(report);
    return report;
  }

  /** Lowest transformer layer whose adapter still learns. */
  get horizon(): number | undefined {
    const layers = [...this.state.liveByLayer().keys()];
    return layers.length > 0 ? Math.min(...layers) : undefined;
  }

  #learningRate(step: number): number {
    return this.#optimizer.learningRate * scheduleFactor(step, this.#counts.totalSteps, this.options.schedule);
  }

  /** The next step as far as it is known while this one runs. */
  #lookAhead(): Step | undefined {
    const step = this.#step + 1;
    const batches = step < this.#counts.totalSteps ? this.upcoming.look() : undefined;
    // What a policy leaves out of a step is its own to say, when the step comes; what is kept of a prefix is read then.
    if (
      this.#policy.dropped ||
      this.run.book.prefixLayer() > 0 ||
      !batches?.every((batch) => this.run.book.hasShape(batch))
    )
      return undefined;
    return { step, batches, dropped: [], learningRate: this.#learningRate(step) };
  }

  async #nextBatches(dropped: readonly number[]): Promise<readonly Batch[]> {
    const batches = this.upcoming.take();
    const fresh = batches.filter((batch) => !this.run.book.hasShape(batch));
    const isNewVariant = this.run.book.addVariant(dropped);
    if (isNewVariant) this.run.updates.addVariant(dropped);
    if (fresh.length > 0 || isNewVariant) {
      fresh.forEach((batch) => this.run.book.addShape(batch));
      await this.run.executor.hold(this.#plans);
    }
    return batches;
  }

  async #consultPolicy(): Promise<void> {
    this.#scores = undefined;
    if (!this.#policy.isDue(this.progress)) return;
    const { model, adapter } = this.options;
    const { probe = this.run.first } = this.options;
    const context = freezeContext({
      ...{ loaded: model, adapter, state: this.state, executor: this.run.executor, probe },
      ...{ progress: this.progress, book: this.run.book, merging: this.merging, plans: this.#plans },
      lossSum: this.run.updates.lossSum,
      ...{ statistics: statisticsOf(this.options), settings: this.#optimizer },
      onScores: (scores) => (this.#scores = scores),
    });
    const chosen = await this.#policy.decide(context);
    if (chosen.length > 0) await this.freeze(chosen);
  }

  /**
   * Freezes tensors for good: plans anew and returns to the driver what only the old plan held.
   * @throws ConfigError for a tensor that this run does not train.
   */
  async freeze(names: readonly string[]): Promise<FreezeEvent> {
    checkFreeze(this.state, names);
    const before = this.state.liveByLayer();
    const was = this.#standing;
    this.state.freeze(names);
    await this.merging?.follow();
    this.run.book.freezeTo(new Set(this.state.live.keys()));
    this.run.updates.rebuild();
    await this.run.executor.hold(this.#plans);
    const after = this.state.liveByLayer();
    const layers = [...before.keys()].filter((layer) => !after.has(layer));
    const event = { step: this.#step, tensors: names, layers, ...freezeEffect(was, this.#standing) };
    this.#freezes.push(event);
    return event;
  }

  /** Live bytes, and FLOPs of a step with the largest batch. */
  get #standing() {
    const { book, updates } = this.run;
    const flops = this.#counts.accumulate * book.batchFlops + updates.flops;
    return { bytes: this.device.pool.ledger.live, flops };
  }

  /** Continues prompts with the model as it is now; throws as `generate` does. */
  async generate(prompts: readonly Prompt[], options: GenerateOptions = {}): Promise<Continuation[]> {
    return continueTexts(await this.parts(), prompts, options);
  }

  /** What a forward pass beside training needs. */
  async parts(): Promise<EvaluationParts> {
    await this.merging?.follow();
    const { model: loaded } = this.options;
    const adapter = this.merging?.acting ?? this.options.adapter;
    const rows = this.options.memoryBudget === undefined ? undefined : this.run.book.choice.rows;
    return { loaded, adapter, executor: this.run.executor, store: this.state, held: this.#plans, rows };
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
