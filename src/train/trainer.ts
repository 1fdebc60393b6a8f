import type { Batch } from "../data/batch";
import { never } from "../freeze/never";
import type { FreezePolicy, Progress } from "../freeze/policy";
import type { Bytes } from "../gpu/ledger";
import type { Prompt } from "../generate/generate";
import type { Continuation, GenerateOptions } from "../generate/options";
import type { Explanation } from "../tape/explain";
import type { Plan } from "../tape/plan";
import { adapterRun } from "./adapter-run";
import { evaluate } from "./evaluate";
import type { Evaluation, SeeLogits } from "./evaluate";
import { checkFreeze, freezeContext } from "./freezing";
import { memoryOf } from "./memory";
import { openRun } from "./open-run";
import type { TrainerRun } from "./open-run";
import { optimizerSettings } from "./optimizer";
import type { OptimizerSettings } from "./optimizer";
import { countSteps } from "./options";
import type { TrainerOptions } from "./options";
import type { Merging } from "./merging";
import { prune } from "./prune";
import { resultOf } from "./report";
import type { FreezeEvent, StepReport, TrainResult } from "./report";
import { scheduleFactor } from "./schedule";
import type { TrainState } from "./state";
import { statisticsOf } from "./statistics";
import { stepPrefix } from "./step-prefix";
import { Stepper } from "./stepper";
import type { Step } from "./stepper";
import { Upcoming } from "./upcoming";

/**
 * Fine-tunes a model with an adapter, and gives memory back as a policy freezes it. Make one with `Trainer.create`,
 * then `train()`, or walk through `steps()`.
 */
export class Trainer {
  readonly #optimizer: OptimizerSettings;
  readonly #policy: FreezePolicy;
  readonly #counts: ReturnType<typeof countSteps>;
  #step = 0;
  readonly #upcoming: Upcoming;
  readonly #stepper: Stepper;
  #isDisposed = false;

  private constructor(private readonly run: TrainerRun) {
    const { options, updates, first } = run;
    this.#optimizer = optimizerSettings(options.optimizer);
    this.#policy = options.policy ?? never();
    this.#counts = countSteps(options);
    this.#upcoming = new Upcoming(() => options.data.next(), this.#counts.accumulate, first);
    this.#stepper = new Stepper({ ...run, updates });
  }

  get options(): TrainerOptions {
    return this.run.options;
  }

  /** Trainable tensors and their optimizer state. */
  get state(): TrainState {
    return this.run.state;
  }

  /** LoRAs that `mergeOnFreeze` has added to the model's weights; undefined without it. */
  get merging(): Merging | undefined {
    return this.run.merging;
  }

  /**
   * Plans the run, checks the budget, allocates.
   * @throws MemoryBudgetError before anything is allocated when the plan needs more than `memoryBudget`; ConfigError,
   * DataError or DeviceError with GPU memory as it was.
   */
  static async create(options: TrainerOptions): Promise<Trainer> {
    return new Trainer(await openRun(options));
  }

  get #device() {
    return this.options.model.engine.device;
  }

  get #plans(): Plan[] {
    return [...this.run.book.plans, ...this.run.updates.plans];
  }

  get progress(): Progress {
    return { step: this.#step, totalSteps: this.#counts.totalSteps, stepsPerEpoch: this.#counts.stepsPerEpoch };
  }

  /** GPU bytes that the plans say this run occupies between steps, by lifetime; equals the ledger. */
  predictedBytes(): Bytes {
    const { model, adapter } = this.options;
    const { live, specs } = this.state;
    return memoryOf(model.model, adapter, live, this.#plans, specs, (name) => this.state.companions(name).length);
  }

  /**
   * What a step keeps from forward to backward, and for which gradient.
   * @param change tensors that are imagined frozen beside those that are: names, or parts of names.
   */
  explain(change: { readonly frozen?: readonly string[] } = {}): Explanation {
    const frozen = change.frozen ?? [];
    const live = [...this.state.live.keys()].filter((name) => !frozen.some((part) => name.includes(part)));
    return this.run.book.explain(new Set(live));
  }

  /** Runs to the end. */
  async train(onStep?: (report: StepReport) => void): Promise<TrainResult> {
    const reports: StepReport[] = [];
    const start = performance.now();
    for await (const report of this.steps()) {
      reports.push(report);
      onStep?.(report);
    }
    const seconds = (performance.now() - start) / 1000;
    return resultOf(reports, seconds, this.#device.pool.ledger, this.policyRecord());
  }

  /** One optimizer step after the other. Breaking off the loop leaves the trainer usable. */
  async *steps(): AsyncGenerator<StepReport, void, undefined> {
    if (this.#step === 0) await this.#begin();
    while (this.#step < this.#counts.totalSteps) yield await this.#runStep();
  }

  /** What a policy wants before the first step. */
  async #begin(): Promise<void> {
    const { first } = this.#upcoming;
    if (this.#policy.prune && first) {
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
  }

  async #runStep(): Promise<StepReport> {
    const start = performance.now();
    const dropped = this.#policy.dropped?.(this.progress, this.options.model.model.layers) ?? [];
    const batches = await this.#nextBatches(dropped);
    await this.merging?.follow();
    const prefix = await stepPrefix(this.run, batches);
    const learningRate = this.#learningRate(this.#step);
    const step = { step: this.#step, batches, dropped, learningRate, below: prefix.inputs };
    const { loss, norm, flops } = await this.#stepper.take(step, () => this.#lookAhead());
    await this.run.updates.follow(this.run.executor, "after_update", this.#step);
    this.#step++;
    await this.run.updates.prune(this.progress);
    await this.options.adapter.afterStep?.(adapterRun(this.state, this.options, this.progress));
    const freezes = await this.#consultPolicy();
    const seconds = (performance.now() - start) / 1000;
    const rows = batches.reduce((sum, batch) => sum + batch.rows, 0);
    const { totalSteps, stepsPerEpoch } = this.#counts;
    return {
      ...{ step: this.#step, totalSteps, epoch: this.#step / stepsPerEpoch, loss, learningRate },
      ...{ gradientNorm: norm, seconds, examplesPerSecond: rows / seconds, freezes },
      flops: flops + prefix.flops + this.run.updates.flops,
      bytes: this.#device.pool.ledger.live,
      horizon: this.horizon,
      frozenTensors: this.state.frozen.length,
      rowsAtOnce: this.run.book.choice.rows,
      recomputed: this.run.book.choice.sections.size,
      prefix: prefix.report,
    };
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
    const batches = step < this.#counts.totalSteps ? this.#upcoming.look() : undefined;
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
    const batches = this.#upcoming.take();
    const fresh = batches.filter((batch) => !this.run.book.hasShape(batch));
    const isNewVariant = this.run.book.addVariant(dropped);
    if (isNewVariant) this.run.updates.addVariant(dropped);
    if (fresh.length > 0 || isNewVariant) {
      fresh.forEach((batch) => this.run.book.addShape(batch));
      await this.run.executor.hold(this.#plans);
    }
    return batches;
  }

  async #consultPolicy(): Promise<FreezeEvent[]> {
    if (!this.#policy.isDue(this.progress)) return [];
    const { model, adapter } = this.options;
    const { probe = this.run.first } = this.options;
    const context = freezeContext({
      ...{ loaded: model, adapter, state: this.state, executor: this.run.executor, probe },
      ...{ progress: this.progress, book: this.run.book, merging: this.merging, plans: this.#plans },
      lossSum: this.run.updates.lossSum,
      ...{ statistics: statisticsOf(this.options), settings: this.#optimizer },
    });
    const chosen = await this.#policy.decide(context);
    return chosen.length > 0 ? [await this.freeze(chosen)] : [];
  }

  /**
   * Freezes tensors for good: plans anew and returns to the driver what only the old plan held.
   * @throws ConfigError for a tensor that this run does not train.
   */
  async freeze(names: readonly string[]): Promise<FreezeEvent> {
    checkFreeze(this.state, names);
    const before = this.state.liveByLayer();
    const { ledger } = this.#device.pool;
    const liveBefore = ledger.liveBytes;
    this.state.freeze(names);
    await this.merging?.follow();
    this.run.book.freezeTo(new Set(this.state.live.keys()));
    this.run.updates.rebuild();
    await this.run.executor.hold(this.#plans);
    const after = this.state.liveByLayer();
    const layers = [...before.keys()].filter((layer) => !after.has(layer));
    const returnedBytes = liveBefore - ledger.liveBytes;
    return { step: this.#step, tensors: names, layers, returnedBytes, bytes: ledger.live };
  }

  /** Loss and predictions on other batches, without dropout; `see` is given each batch's logits. */
  async evaluate(batches: Iterable<Batch>, see?: SeeLogits): Promise<Evaluation> {
    return evaluate(await this.#parts(), batches, see);
  }

  /** Continues prompts with the model as it is now; throws as `generate` does. */
  async generate(prompts: readonly Prompt[], options: GenerateOptions = {}): Promise<Continuation[]> {
    const { continueTexts } = await import("../generate/continue");
    return continueTexts(await this.#parts(), prompts, options);
  }

  async #parts() {
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

  /** The policy's options and findings so far. */
  policyRecord(): Readonly<Record<string, unknown>> {
    return { name: this.#policy.name, ...this.#policy.record() };
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

  [Symbol.dispose](): void {
    this.dispose();
  }
}
