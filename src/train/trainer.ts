import type { Batch } from "../data/batch";
import { never } from "../freeze/never";
import type { FreezePolicy, Progress } from "../freeze/policy";
import type { Bytes } from "../gpu/ledger";
import { continueTexts } from "../generate/generate";
import type { Prompt } from "../generate/generate";
import type { Continuation, GenerateOptions } from "../generate/options";
import { Executor } from "../run/executor";
import type { Explanation } from "../tape/explain";
import type { Plan } from "../tape/plan";
import { adapterRun } from "./adapter-run";
import { evaluate } from "./evaluate";
import type { Evaluation, SeeLogits } from "./evaluate";
import { checkFreeze, freezeContext } from "./freezing";
import { checkFinite, stepGradients } from "./gradients";
import type { StepGradients } from "./gradients";
import { memoryOf } from "./memory";
import { optimizerSettings } from "./optimizer";
import type { OptimizerSettings } from "./optimizer";
import { countSteps } from "./options";
import type { TrainerOptions } from "./options";
import { Merging } from "./merging";
import type { PlanBook } from "./plan-book";
import { PrefixCache } from "./prefix-cache";
import { preflight } from "./preflight";
import { prune } from "./prune";
import { resultOf } from "./report";
import type { FreezeEvent, StepReport, TrainResult } from "./report";
import { scheduleFactor } from "./schedule";
import { TrainState } from "./state";
import { statisticsOf } from "./statistics";
import { withStructuralMasks } from "./structures";
import { Updates } from "./updates";

/**
 * Fine-tunes a model with an adapter, and gives memory back as a policy freezes it. Make one with `Trainer.create`,
 * then `train()`, or walk through `steps()`.
 */
export class Trainer {
  readonly #optimizer: OptimizerSettings;
  readonly #policy: FreezePolicy;
  readonly #counts: ReturnType<typeof countSteps>;
  #step = 0;
  #pending: Batch | undefined;
  #isDisposed = false;

  private constructor(
    readonly options: TrainerOptions,
    /** Trainable tensors and their optimizer state. */
    readonly state: TrainState,
    private readonly executor: Executor,
    private readonly book: PlanBook,
    private readonly updates: Updates,
    private readonly probe: Batch,
    first: Batch,
    private readonly cache: PrefixCache | undefined,
    /** LoRAs that `mergeOnFreeze` has added to the model's weights; undefined without it. */
    readonly merging: Merging | undefined,
  ) {
    this.#optimizer = optimizerSettings(options.optimizer);
    this.#policy = options.policy ?? never();
    this.#counts = countSteps(options);
    this.#pending = first;
  }

  /**
   * Plans the run, checks the budget, allocates.
   * @throws MemoryBudgetError before anything is allocated when the plan needs more than `memoryBudget`; ConfigError,
   * DataError or DeviceError with GPU memory as it was.
   */
  static async create(given: TrainerOptions): Promise<Trainer> {
    const options = withStructuralMasks(given);
    const { model: loaded, adapter, seed = 0 } = options;
    const cache = PrefixCache.of(options.prefixCache, loaded.model);
    const { book, first, merges, settings, statistics, live, plannedBytes } = preflight(options);
    const state = await TrainState.create(loaded, adapter, seed, { live, statistics });
    const executor = new Executor(loaded.engine.device, plannedBytes);
    try {
      if (options.initial) state.restore(options.initial);
      const merging = merges && new Merging(merges, loaded, adapter, state);
      const updates = Updates.of(options, state, settings, statistics);
      const trainer = new Trainer(
        options,
        state,
        executor,
        book,
        updates,
        options.probe ?? first,
        first,
        cache,
        merging,
      );
      await executor.hold(trainer.#plans);
      await executor.compile();
      return trainer;
    } catch (error) {
      executor.dispose();
      state.dispose();
      cache?.dispose();
      throw error;
    }
  }

  get #device() {
    return this.options.model.engine.device;
  }

  get #plans(): Plan[] {
    return [...this.book.plans, ...this.updates.plans];
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
    return this.book.explain(new Set(live));
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
    if (this.#policy.prune && this.#pending) {
      const { state } = this;
      const gradients = async (): Promise<void> => {
        await this.#gradients([this.#pending as Batch], []);
      };
      await prune(this.#policy, { state, gradients });
      this.updates.rebuild();
      await this.executor.hold(this.#plans);
    }
    await this.#consultPolicy();
  }

  async #runStep(): Promise<StepReport> {
    const start = performance.now();
    const dropped = this.#policy.dropped?.(this.progress, this.options.model.model.layers) ?? [];
    const batches = await this.#nextBatches(dropped);
    const learningRate =
      this.#optimizer.learningRate * scheduleFactor(this.#step, this.#counts.totalSteps, this.options.schedule);
    const { loss, flops, prefix } = await this.#gradients(batches, dropped);
    await this.updates.follow(this.executor, "before_update", this.#step);
    const norm = await this.updates.apply(this.executor, loss, learningRate, dropped);
    checkFinite("gradient norm", norm, this.#step);
    await this.updates.follow(this.executor, "after_update", this.#step);
    this.#step++;
    await this.updates.prune(this.progress);
    await this.options.adapter.afterStep?.(adapterRun(this.state, this.options, this.progress));
    const freezes = await this.#consultPolicy();
    const seconds = (performance.now() - start) / 1000;
    const rows = batches.reduce((sum, batch) => sum + batch.rows, 0);
    const { totalSteps, stepsPerEpoch } = this.#counts;
    return {
      ...{ step: this.#step, totalSteps, epoch: this.#step / stepsPerEpoch, loss, learningRate },
      ...{ gradientNorm: norm, seconds, examplesPerSecond: rows / seconds, freezes },
      flops: flops + this.updates.flops,
      bytes: this.#device.pool.ledger.live,
      horizon: this.horizon,
      frozenTensors: this.state.frozen.length,
      rowsAtOnce: this.book.choice.rows,
      recomputed: this.book.choice.sections.size,
      prefix,
    };
  }

  /** Lowest transformer layer whose adapter still learns. */
  get horizon(): number | undefined {
    const layers = [...this.state.liveByLayer().keys()];
    return layers.length > 0 ? Math.min(...layers) : undefined;
  }

  async #nextBatches(dropped: readonly number[]): Promise<Batch[]> {
    const { data } = this.options;
    const batches: Batch[] = [];
    for (let i = 0; i < this.#counts.accumulate; i++) {
      batches.push(this.#pending ?? data.next());
      this.#pending = undefined;
    }
    const fresh = batches.filter((batch) => !this.book.hasShape(batch));
    const isNewVariant = this.book.addVariant(dropped);
    if (isNewVariant) this.updates.addVariant(dropped);
    if (fresh.length > 0 || isNewVariant) {
      fresh.forEach((batch) => this.book.addShape(batch));
      await this.executor.hold(this.#plans);
    }
    return batches;
  }

  #gradients(batches: readonly Batch[], dropped: readonly number[]): Promise<StepGradients> {
    const { options, book, executor, state, cache, merging } = this;
    return stepGradients({ options, book, executor, state, cache, merging }, batches, { step: this.#step, dropped });
  }

  async #consultPolicy(): Promise<FreezeEvent[]> {
    if (!this.#policy.isDue(this.progress)) return [];
    const { model, adapter } = this.options;
    const context = freezeContext({
      ...{ loaded: model, adapter, state: this.state, executor: this.executor, probe: this.probe },
      ...{ progress: this.progress, book: this.book, merging: this.merging, plans: this.#plans },
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
    this.book.freezeTo(new Set(this.state.live.keys()));
    this.updates.rebuild();
    await this.executor.hold(this.#plans);
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
    return continueTexts(await this.#parts(), prompts, options);
  }

  async #parts() {
    await this.merging?.follow();
    const { model: loaded } = this.options;
    const adapter = this.merging?.acting ?? this.options.adapter;
    const rows = this.options.memoryBudget === undefined ? undefined : this.book.choice.rows;
    return { loaded, adapter, executor: this.executor, store: this.state, held: this.#plans, rows };
  }

  /** Takes merged LoRAs out of the weights again, to their very bits, and merges no more. */
  async unmerge(): Promise<void> {
    if (!this.merging) return;
    this.merging.unmerge();
    this.book.freezeTo(new Set(this.state.live.keys()));
    await this.executor.hold(this.#plans);
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
    this.executor.dispose();
    this.state.dispose();
    this.cache?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
