import type { Adapter, AdapterState } from "../../adapter/adapter";
import type { ActivePolicy, Progress } from "../../freeze/policy";
import type { Limits } from "../../op/limits";
import type { Executor, Run } from "../../run/executor";
import { lossSumPlan, sumsLosses } from "../plans/loss-sum-plan";
import type { Plan } from "../../tape/plan";
import { hyperParameters, LOSS, normPlan, SQUARE_SUM, updatePlan } from "../plans/optimizer-plan";
import type { OptimizerSettings } from "../plans/optimizer-plan";
import type { TrainerOptions } from "../options";
import type { TrainableTensors } from "../tensors/trainable-tensors";
import { statisticsInputs, statisticsPlan } from "../plans/statistics-plan";
import { StructuralPruner } from "../freezing/structural-pruner";
import type { SavedPruner } from "../freezing/structural-pruner";
import type { Statistics } from "../../ops/shared/statistics";

/** What updates have counted and found, plain JSON. */
export interface SavedOptimizer {
  readonly ages: readonly (readonly [group: string, updates: number])[];
  readonly structures?: SavedPruner | undefined;
}

export interface UpdatesOptions {
  readonly settings: OptimizerSettings;
  readonly adapter: Adapter;
  /** What the adapter counts in this run, where it does. */
  readonly adapterState: AdapterState | undefined;
  readonly statistics: Statistics | undefined;
  readonly limits: Limits;
  /** Heads and neurons that go in the course of the run. */
  readonly structures?: StructuralPruner | undefined;
  /** Whether a step's loss may come from several runs. */
  readonly sumsLosses: boolean;
  /** Whether steps may leave layers out, so that layers differ in how many updates they have had. */
  readonly dropsLayers: boolean;
}

interface PlannedUpdate {
  readonly plan: Plan;
  /** Tells whether the step is finite, where that must be known before the update. */
  readonly norm: Plan | undefined;
  /** Groups of tensors that count their updates. */
  readonly layers: readonly string[];
}

/** What follows backward in a step: statistics, masks, the global norm, AdamW. Planned anew when the live set changes. */
export class OptimizerPlans {
  #plans = new Map<string, PlannedUpdate>();
  #variants = new Map<string, readonly number[]>([["", []]]);
  #statistics: Plan | undefined;
  /** Adds up the losses of a step's runs, where there may be several. */
  readonly lossSum: Plan | undefined;
  /** Updates that each group of tensors has had: AdamW's t. */
  readonly #ages = new Map<string, number>();

  constructor(
    private readonly state: TrainableTensors,
    private readonly options: UpdatesOptions,
  ) {
    this.lossSum = options.sumsLosses ? lossSumPlan(options.limits) : undefined;
    this.rebuild();
  }

  /** For a run's options and settings. */
  static of(
    options: TrainerOptions,
    state: TrainableTensors,
    settings: OptimizerSettings,
    statistics: Statistics | undefined,
    { policy, adapterState }: { readonly policy: ActivePolicy; readonly adapterState: AdapterState | undefined },
  ): OptimizerPlans {
    const { model: loaded, adapter } = options;
    const { model, engine } = loaded;
    const { limits } = engine.device;
    const structures =
      policy.kind === "structure_pruning" ? new StructuralPruner(policy, state, { model, adapter, limits }) : undefined;
    const dropsLayers = policy.kind === "layer_dropping";
    const own = { settings, adapter, adapterState, statistics, limits, structures, dropsLayers };
    return new OptimizerPlans(state, { ...own, sumsLosses: sumsLosses(options) });
  }

  /** Every plan that the executor must hold. */
  get plans(): Plan[] {
    const planned = [...this.#plans.values()];
    const own = [...planned, ...planned.map(({ norm }) => ({ plan: norm }))].flatMap(({ plan }) => plan ?? []);
    const further = [this.#statistics, this.lossSum].filter((plan) => plan !== undefined);
    return [...own, ...further, ...(this.options.structures?.plans ?? [])];
  }

  save(): SavedOptimizer {
    return { ages: [...this.#ages], structures: this.options.structures?.save() };
  }

  /** Goes on where `save` was called. @throws FileFormatError for what another model saved. */
  restore({ ages, structures = [] }: SavedOptimizer): void {
    this.#ages.clear();
    for (const [group, updates] of ages) this.#ages.set(group, updates);
    this.options.structures?.restore(structures);
  }

  /** FLOPs of a step's update. */
  get flops(): number {
    return this.plans[0]?.flops.forward ?? 0;
  }

  /** Plans for the live set as it is now. */
  rebuild(): void {
    const { limits, statistics } = this.options;
    this.#statistics = statisticsPlan(this.state.live, statistics, limits);
    this.options.structures?.rebuild();
    this.#plans.clear();
    for (const [key, dropped] of this.#variants) this.#plans.set(key, this.#make(dropped));
  }

  /** Makes room for steps without some layers' adapters. */
  addVariant(dropped: readonly number[]): void {
    const key = dropped.join(", ");
    if (this.#variants.has(key)) return;
    this.#variants.set(key, dropped);
    this.#plans.set(key, this.#make(dropped));
  }

  /** Takes that room back. */
  dropVariant(dropped: readonly number[]): void {
    const key = dropped.join(", ");
    this.#variants.delete(key);
    this.#plans.delete(key);
  }

  /** Whether something reads the gradients before the update: it must not see those of a loss that is not finite. */
  get readsGradientsFirst(): boolean {
    const { statistics, structures } = this.options;
    const isFollowed = this.#statistics !== undefined && statistics?.when === "before_update";
    return isFollowed || (structures?.plans.length ?? 0) > 0;
  }

  /** Whether something reads a step's gradients besides its update, or changes what the next ones depend on. */
  get hasObservers(): boolean {
    return this.#statistics !== undefined || this.readsGradientsFirst || this.options.adapterState !== undefined;
  }

  /** Brings the statistics up to date where this is their moment; `step` counts from 0. */
  async collectStatistics(executor: Executor, when: Statistics["when"], step: number): Promise<void> {
    const { statistics } = this.options;
    if (this.#statistics && statistics?.when === when) {
      await executor.run(this.#statistics, this.state, statisticsInputs(statistics, step));
    }
    if (when === "before_update") await this.options.structures?.follow(executor);
  }

  /** Takes structures out where that is due, after a step. */
  async prune(progress: Progress): Promise<void> {
    await this.options.structures?.prune(progress);
  }

  /** The plan of an update of what is live and not left out; it takes the loss as an input. */
  planOf(dropped: readonly number[]): Plan {
    return this.#found(dropped).plan;
  }

  /** The plan that gives loss and norm of a step's gradients ahead of the update, where these are followed. */
  normOf(dropped: readonly number[]): Plan | undefined {
    return this.#found(dropped).norm;
  }

  /** One update. Nothing moves where loss or gradient norm are not finite. */
  run(dropped: readonly number[], learningRate: number, loss?: number): Run {
    const { plan, layers } = this.#found(dropped);
    const { settings } = this.options;
    const hyper = (group: string): Float32Array => hyperParameters(settings, learningRate, this.#age(group) + 1);
    const inputs = () => ({
      ...(loss !== undefined && { [LOSS]: Float32Array.of(loss) }),
      ...Object.fromEntries(layers.map((group) => [group, hyper(group)])),
    });
    return { plan, store: this.state, inputs };
  }

  /** Loss and global gradient norm of an update that was run. */
  finish(
    outputs: ReadonlyMap<string, Float32Array>,
    dropped: readonly number[],
  ): { loss: number; gradientNorm: number } {
    const { loss, gradientNorm } = this.judge(outputs);
    if (Number.isFinite(loss) && Number.isFinite(gradientNorm)) {
      for (const group of this.#found(dropped).layers) this.#ages.set(group, this.#age(group) + 1);
    }
    return { loss, gradientNorm };
  }

  /** Loss and global gradient norm of a step. */
  judge(outputs: ReadonlyMap<string, Float32Array>): { loss: number; gradientNorm: number } {
    return { loss: outputs.get(LOSS)?.[0] ?? NaN, gradientNorm: Math.sqrt(outputs.get(SQUARE_SUM)?.[0] ?? NaN) };
  }

  #age(group: string): number {
    return this.#ages.get(group) ?? 0;
  }

  #found(dropped: readonly number[]) {
    const found = this.#plans.get(dropped.join(", "));
    if (!found) throw new Error("The update of these layers is not planned: call addVariant() first.");
    return found;
  }

  #make(dropped: readonly number[]): PlannedUpdate {
    const { adapter, settings, limits, dropsLayers } = this.options;
    const isOut = (layer: number | undefined): boolean => layer !== undefined && dropped.includes(layer);
    const live = new Map([...this.state.live].filter(([, { layer }]) => !isOut(layer)));
    const group = (name: string): string =>
      dropsLayers ? `hyper of layer ${live.get(name)?.layer ?? "none"}` : "hyper";
    const { masked } = this.state;
    const norm = this.readsGradientsFirst ? normPlan(live, limits, { masked }) : undefined;
    const plan = updatePlan(live, settings, limits, {
      masked,
      hyper: group,
      proximal: (name) => adapter.proximal?.(name),
    });
    return { plan, norm, layers: [...new Set([...live.keys()].map(group))] };
  }
}
