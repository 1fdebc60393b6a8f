import type { Adapter } from "../adapter/adapter";
import type { Progress } from "../freeze/policy";
import type { Limits } from "../op/limits";
import type { TensorSpec } from "../op/declaration";
import type { Executor } from "../run/executor";
import { layerOf } from "../model/model";
import type { Plan } from "../tape/plan";
import { hyperParameters, SQUARE_SUM, updatePlan } from "./optimizer";
import type { OptimizerSettings } from "./optimizer";
import type { TrainerOptions } from "./options";
import type { TrainState } from "./state";
import { statisticsInputs, statisticsPlan } from "./statistics";
import { Structures } from "./structures";
import type { Statistics } from "../ops/shared/statistics";

export interface UpdatesOptions {
  readonly settings: OptimizerSettings;
  readonly adapter: Adapter;
  readonly statistics: Statistics | undefined;
  readonly limits: Limits;
  /** Heads and neurons that go in the course of the run. */
  readonly structures?: Structures | undefined;
  /** Whether steps may leave layers out, so that layers differ in how many updates they have had. */
  readonly dropsLayers: boolean;
}

/** What follows backward in a step: statistics, masks, the global norm, AdamW. Planned anew when the live set changes. */
export class Updates {
  #plans = new Map<string, { readonly plan: Plan; readonly layers: readonly string[] }>();
  #variants = new Map<string, readonly number[]>([["", []]]);
  #statistics: Plan | undefined;
  /** Updates that each group of tensors has had: AdamW's t. */
  readonly #ages = new Map<string, number>();

  constructor(
    private readonly state: TrainState,
    private readonly options: UpdatesOptions,
  ) {
    this.rebuild();
  }

  /** For a run's options and settings. */
  static of(
    { model: loaded, adapter, policy }: TrainerOptions,
    state: TrainState,
    settings: OptimizerSettings,
    statistics: Statistics | undefined,
  ): Updates {
    const { model, engine } = loaded;
    const { limits } = engine.device;
    const structural = policy?.structural;
    const structures = structural && new Structures(structural, state, { model, adapter, limits });
    const dropsLayers = policy?.dropped !== undefined;
    return new Updates(state, { settings, adapter, statistics, limits, structures, dropsLayers });
  }

  /** Every plan that the executor must hold. */
  get plans(): Plan[] {
    const own = [...this.#plans.values()].map(({ plan }) => plan);
    return [...own, ...(this.#statistics ? [this.#statistics] : []), ...(this.options.structures?.plans ?? [])];
  }

  /** FLOPs of a step's update. */
  get flops(): number {
    return this.plans[0]?.flops.forward ?? 0;
  }

  /** Plans for the live set as it is now. */
  rebuild(): void {
    const { limits, statistics } = this.options;
    this.#plans.clear();
    for (const [key, dropped] of this.#variants) this.#plans.set(key, this.#make(dropped));
    this.#statistics = statisticsPlan(this.state.live, statistics, limits);
    this.options.structures?.rebuild();
  }

  /** Makes room for steps without some layers' adapters. */
  addVariant(dropped: readonly number[]): void {
    const key = dropped.join(", ");
    if (this.#variants.has(key)) return;
    this.#variants.set(key, dropped);
    this.#plans.set(key, this.#make(dropped));
  }

  /** Brings the statistics up to date where this is their moment; `step` counts from 0. */
  async follow(executor: Executor, when: Statistics["when"], step: number): Promise<void> {
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

  /** One update of what is live and not left out. Gives the global gradient norm; nothing moves where it is not finite. */
  async apply(executor: Executor, loss: number, learningRate: number, dropped: readonly number[]): Promise<number> {
    const found = this.#plans.get(dropped.join(", "));
    if (!found) throw new Error("The update of these layers is not planned: call addVariant() first.");
    const { settings } = this.options;
    const hyper = Object.fromEntries(
      found.layers.map((group) => [group, hyperParameters(settings, learningRate, (this.#ages.get(group) ?? 0) + 1)]),
    );
    const outputs = await executor.run(found.plan, this.state, { loss: Float32Array.of(loss), ...hyper });
    const norm = Math.sqrt(outputs.get(SQUARE_SUM)?.[0] ?? NaN);
    if (Number.isFinite(norm))
      for (const group of found.layers) this.#ages.set(group, (this.#ages.get(group) ?? 0) + 1);
    return norm;
  }

  #make(dropped: readonly number[]): { plan: Plan; layers: readonly string[] } {
    const { adapter, settings, limits, dropsLayers } = this.options;
    const isOut = (name: string): boolean => dropped.includes(layerOf(name) ?? Number.NaN);
    const live = new Map<string, TensorSpec>([...this.state.live].filter(([name]) => !isOut(name)));
    const group = (name: string): string => (dropsLayers ? `hyper of layer ${layerOf(name) ?? "none"}` : "hyper");
    const plan = updatePlan(live, settings, limits, {
      ...{ masked: this.state.masked, hyper: group },
      proximal: (name) => adapter.proximal?.(name),
    });
    return { plan, layers: [...new Set([...live.keys()].map(group))] };
  }
}
