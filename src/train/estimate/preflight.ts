import { ConfigError, MemoryBudgetError } from "../../base/errors";
import type { Batch } from "../../data/batch";
import { sumBytes } from "../../gpu/ledger";
import type { Bytes } from "../../gpu/ledger";
import type { TensorSpec } from "../../op/declaration";
import type { Statistics } from "../../ops/shared/statistics";
import type { Plan } from "../../tape/plan";
import { lossSumPlan, sumsLosses } from "../plans/loss-sum-plan";
import { footprint } from "../plans/footprint";
import { normPlan, optimizerSettings, updatePlan } from "../plans/optimizer-plan";
import type { OptimizerSettings } from "../plans/optimizer-plan";
import { runLength } from "./run-length";
import type { TrainerOptions } from "../options";
import { checkMergeOnFreeze, MergeChoice } from "../plans/merge-choice";
import { PlanBook } from "../plans/plan-book";
import { checkPrefixCache } from "../plans/frozen-prefix";
import { checkRecompute } from "../plans/recompute";
import { checkTrainable, trainableSpecs } from "../tensors/specs";
import { budgetOf, checkMicroBatch, chooseStep } from "../plans/step-choice";
import type { StepChoice } from "../plans/step-choice";
import { statisticsOf, statisticsPlan } from "../plans/statistics-plan";
import { companionNames } from "../tensors/names";
import { importancePlan, prunableStructures } from "../plans/importance-plan";

/** What is known of a run before it has any memory. */
export interface Preflight {
  readonly book: PlanBook;
  readonly settings: OptimizerSettings;
  readonly statistics: Statistics | undefined;
  /** Tensors that get a gradient; one that no op of the model reads learns nothing, as in PyTorch. */
  readonly live: ReadonlyMap<string, TensorSpec>;
  readonly first: Batch;
  readonly merges: MergeChoice | undefined;
  /** Bytes of the run, as it is frozen by then, with its steps run in some way. */
  readonly needs: (choice: StepChoice) => number;
  /** What `memoryBudget` leaves for the buffers of plans. */
  readonly plannedBytes: number;
}

/**
 * Plans a run and checks its budget; allocates nothing.
 * @param given the data's first batch, or how to draw it.
 * @throws MemoryBudgetError when the plan needs more than `memoryBudget`; ConfigError or DataError for wrong options.
 */
export function preflight(options: TrainerOptions, given: Batch | (() => Batch)): Preflight {
  const { model: loaded, adapter, data, policy, accumulate = 1, labelSmoothing = 0 } = options;
  runLength(options);
  checkTrainable(loaded.model, adapter);
  const settings = optimizerSettings(options.optimizer);
  const { limits } = loaded.engine.device;
  const { model, fragileNorms } = loaded;
  const specs = trainableSpecs(model, adapter);
  const isTraining = options.dropout ?? true;
  const statistics = statisticsOf(options);
  const structures = policy?.kind === "structure_pruning" ? prunableStructures(model, policy) : [];
  const lossSum = sumsLosses(options) ? lossSumPlan(limits) : undefined;
  const isMasked = (name: string): boolean => policy?.kind === "weight_pruning" && specs.get(name)?.layer !== undefined;
  const companions = (name: string): number => companionNames(name, { statistics, isMasked: isMasked(name) }).length;
  const bytesOf = (live: ReadonlyMap<string, TensorSpec>, steps: readonly Plan[]): Bytes => {
    const followed = statisticsPlan(live, statistics, limits);
    const judged = importancePlan({ model, adapter, structures }, live, limits);
    const update = updatePlan(live, settings, limits);
    const isFollowed = judged !== undefined || (followed !== undefined && statistics?.when === "before_update");
    const norm = isFollowed ? normPlan(live, limits) : undefined;
    const plans = [...steps, update, norm, followed, lossSum, judged].filter((one) => one !== undefined);
    return footprint(model, adapter, live, plans, specs, companions);
  };
  checkRecompute(options.recompute ?? "none");
  checkMicroBatch(options);
  const { onNotFinite = "stop" } = options;
  if (!["stop", "skip"].includes(onNotFinite)) {
    throw new ConfigError(`onNotFinite is ${JSON.stringify(onNotFinite)}.`, "Give stop or skip.");
  }
  if (options.mergeOnFreeze) checkMergeOnFreeze(options);
  const merges = options.mergeOnFreeze ? new MergeChoice(model, adapter) : undefined;
  const budget = budgetOf(options);
  const book = new PlanBook(
    {
      model,
      adapter,
      labelSmoothing,
      fragileNorms,
      limits,
      isTraining,
      accumulates: accumulate > 1,
      activations: options.activations,
      merges,
      cachesPrefix: Boolean(options.prefixCache),
      choose: (names, size, plansWith) => {
        const live = new Map([...specs].filter(([name]) => names.has(name)));
        return chooseStep(model, options, size, (choice) => sumBytes(bytesOf(live, plansWith(choice))));
      },
    },
    new Set(specs.keys()),
  );
  const first = typeof given === "function" ? given() : given;
  for (const shape of [first, ...(data.shapes?.() ?? [])]) book.addShape(shape);
  if (options.prefixCache) checkPrefixCache(options, first, book.prefixLayer(new Set()));
  const live = new Map(book.plans.flatMap(({ gradients }) => [...gradients]));
  merges?.begin(live.keys());
  book.freezeTo(new Set(live.keys()));
  const bytes = bytesOf(live, book.plans);
  checkBudget(budget, bytes);
  const plannedBytes = budget - bytes.weight - bytes.state;
  const needs = (choice: StepChoice): number => {
    const still = new Map([...live].filter(([name]) => book.isLive(name)));
    const plans = book.plansBy(choice);
    // Fewer rows at once are several runs, whose losses are summed.
    const isSplit = choice.rows < book.choice.rows && !lossSum;
    return sumBytes(bytesOf(still, isSplit ? [...plans, lossSumPlan(limits)] : plans));
  };
  return { needs, book, settings, statistics, live, first, merges, plannedBytes };
}

function checkBudget(budget: number, needed: Bytes): void {
  const bytes = sumBytes(needed);
  if (bytes <= budget) return;
  throw new MemoryBudgetError(
    `This run needs ${bytes} bytes (weights ${needed.weight}, state ${needed.state}, saved ${needed.saved}, scratch ${needed.scratch}); the budget is ${budget}.`,
    'Use microBatch: "fit", recompute: "layers", shorter texts, a lower rank, or a larger memoryBudget.',
    bytes,
    budget,
  );
}
