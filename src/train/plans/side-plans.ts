import type { Adapter } from "../../adapter/adapter";
import { isInHead } from "../../model/model";
import type { Model } from "../../model/model";
import type { Limits } from "../../op/limits";
import type { Statistics } from "../../ops/shared/statistics";
import { optimizerOf } from "../../optimizer/adamw";
import type { Optimizer } from "../../optimizer/optimizer";
import { groupOf } from "../../optimizer/settings";
import type { TensorGroup } from "../../optimizer/settings";
import type { Plan } from "../../tape/plan";
import type { TrainerOptions } from "../options";
import { lossSumPlan, sumsLosses } from "./loss-sum-plan";
import { normPlan, updatePlan } from "./optimizer-plan";
import type { PlannedModel } from "./planned-model";
import { arenasOf } from "../tensors/arenas";
import type { TrainableSpec } from "../tensors/specs";
import { statisticsOf, statisticsPlan } from "./statistics-plan";
import { learnsWithout, stepVariants } from "./step-variants";
import type { StepVariants } from "./step-variants";
import { variantKey } from "./trace";
import type { DroppedLayers } from "./trace";

/** What a run plans in addition where its policy prunes structures. It is loaded with such a policy: few runs have one. */
export interface PruningPlans {
  /** The plan that measures the importance of heads and neurons in every step; undefined where none of their LoRAs learns. */
  importance(
    side: Pick<SidePlanOptions, "planned" | "adapter" | "limits">,
    live: ReadonlyMap<string, TrainableSpec>,
  ): Plan | undefined;
  /** Names of the tensors that shrink together when groups are cut, for each structure of a model. */
  tensors(model: Model): readonly (readonly string[])[];
}

/** What decides, together with the live tensors, which plans a run holds in addition to those of its steps. */
export interface SidePlanOptions {
  readonly planned: Pick<PlannedModel, "model">;
  readonly adapter: Adapter;
  readonly optimizer: Optimizer;
  readonly statistics: readonly Statistics[];
  /** Undefined for a policy that prunes no structures. */
  readonly pruning: PruningPlans | undefined;
  /** Whether the loss of a step may be the sum of several runs' losses. */
  readonly sumsLosses: boolean;
  /** The sets of layers that steps leave out; undefined for a run that never leaves any out. */
  readonly variants: StepVariants | undefined;
  readonly limits: Limits;
}

/** The plans of an optimizer update without some layers. */
export interface UpdatePlans {
  /** Names of the tensors that it changes. */
  readonly tensors: readonly string[];
  readonly update: Plan;
  /** Gives loss and gradient norm ahead of the update, where something reads the gradients in between. */
  readonly norm: Plan | undefined;
  /** Groups by the name of their input. Tensors of one group have had the same number of updates. */
  readonly groups: ReadonlyMap<string, TensorGroup>;
}

/** A plan that collects statistics of gradients. */
export interface StatisticsPlan {
  readonly statistics: Statistics;
  readonly plan: Plan;
}

/** Every plan that a run holds in addition to those of its steps. */
export interface SidePlans {
  /** By `variantKey` of the layers that are left out. */
  readonly updates: ReadonlyMap<string, UpdatePlans>;
  readonly statistics: readonly StatisticsPlan[];
  readonly importance: Plan | undefined;
  readonly lossSum: Plan | undefined;
  /** All of the above. */
  readonly all: readonly Plan[];
}

/** The options of a trainer's side plans. @throws ConfigError for wrong optimizer settings or two statistics of one tensor. */
export function sidePlanOptions(
  options: TrainerOptions,
  planned: PlannedModel,
  pruning: PruningPlans | undefined,
): SidePlanOptions {
  const { model: loaded, adapter, policy } = options;
  const variants = stepVariants(policy, loaded.model, adapter);
  return {
    planned,
    adapter,
    optimizer: optimizerOf(options.optimizer),
    statistics: statisticsOf(options),
    pruning,
    sumsLosses: sumsLosses(options, variants),
    variants,
    limits: loaded.engine.device.limits,
  };
}

/**
 * Plans everything that a run holds in addition to its steps.
 * @param live the tensors that still learn.
 * @param masked those of them whose gradients are masked.
 */
export function sidePlans(
  options: SidePlanOptions,
  live: ReadonlyMap<string, TrainableSpec>,
  masked: ReadonlySet<string>,
): SidePlans {
  const { planned, adapter, optimizer, variants, limits } = options;
  const statistics = options.statistics.flatMap((each) => {
    const plan = statisticsPlan(live, each, limits);
    return plan ? [{ statistics: each, plan }] : [];
  });
  const importance = options.pruning?.importance(options, live);
  const lossSum = options.sumsLosses ? lossSumPlan(limits) : undefined;
  const readsGradientsFirst =
    importance !== undefined || statistics.some((each) => each.statistics.when === "before_update");
  const group = (name: string): TensorGroup => {
    const shared = groupOf(optimizer.settings, name, isInHead(planned.model, name));
    const layer = live.get(name)?.layer;
    if (!variants) return shared;
    return { ...shared, input: `${shared.input} of layer ${typeof layer === "number" ? layer : "none"}` };
  };
  const arenas = arenasOf(planned.model, adapter);
  const updatePlans = (dropped: DroppedLayers): UpdatePlans => {
    const updated = new Map([...live].filter(([name]) => !variants || learnsWithout(dropped, name, variants)));
    return {
      tensors: [...updated.keys()],
      ...updatePlan(updated, optimizer, limits, {
        masked,
        group,
        arenas,
        proximal: (name) => adapter.proximal?.(name),
      }),
      norm: readsGradientsFirst ? normPlan(updated, optimizer, limits, { masked, group, arenas }) : undefined,
    };
  };
  const updates = new Map(
    [[], ...(variants?.sets ?? [])].map((dropped) => [variantKey(dropped), updatePlans(dropped)]),
  );
  const all = [...updates.values()].flatMap(({ update, norm }) => [update, norm]);
  return {
    updates,
    statistics,
    importance,
    lossSum,
    all: [...all, ...statistics.map(({ plan }) => plan), importance, lossSum].filter((plan) => plan !== undefined),
  };
}
