import { ConfigError, DataError } from "../../base/errors";
import { sameShape } from "../../base/shape";
import type { Batch } from "../../data/batch";
import { sumBytes } from "../../gpu/ledger";
import type { TrainerOptions } from "../options";
import { isInHead } from "../../model/model";
import type { Optimizer } from "../../optimizer/optimizer";
import { belongsTo, groupText } from "../../optimizer/settings";
import type { ParameterGroup } from "../../optimizer/settings";
import { weightBytes } from "../plans/footprint";
import { checkPrefixCache } from "../plans/frozen-prefix";
import { checkMergeOnFreeze, MergeChoice } from "../plans/merge-choice";
import { PlanBook } from "../plans/plan-book";
import type { PlannedModel } from "../plans/planned-model";
import { checkRecompute } from "../plans/recompute";
import { sidePlanOptions } from "../plans/side-plans";
import type { PruningPlans, SidePlanOptions } from "../plans/side-plans";
import { budgetBytes, checkMicroBatch, chooseStep } from "../plans/step-choice";
import type { StepChoice } from "../plans/step-choice";
import { learnsWithout } from "../plans/step-variants";
import type { StepVariants } from "../plans/step-variants";
import { checkTrainable, trainableSpecs } from "../tensors/specs";
import type { TrainableSpec } from "../tensors/specs";
import { MemoryNeeds } from "./memory-needs";
import { runLength } from "./run-length";

/** What is known of a run before it has any memory. */
export interface Preflight {
  readonly book: PlanBook;
  readonly planned: PlannedModel;
  /** What decides which plans it holds in addition to those of its steps. */
  readonly side: SidePlanOptions;
  /** Tensors that get a gradient. One that no op of the model reads learns nothing, as in PyTorch. */
  readonly live: ReadonlyMap<string, TrainableSpec>;
  /** The first batch of the data. */
  readonly first: Batch;
  readonly merges: MergeChoice | undefined;
  /** Bytes of the run between two steps, with the tensors that are live by then, if its steps ran in another way. */
  readonly needs: (choice: StepChoice) => number;
  /** Bytes that the memory budget leaves now for the run's own tensors and the buffers of plans. */
  readonly bytesForRun: () => number;
}

/** @throws ConfigError for a policy that can freeze none of a run's tensors. */
function checkMayFreeze({ policy, adapter, model }: TrainerOptions, live: Preflight["live"]): void {
  if (policy?.kind !== "freezing" || !policy.mayFreeze) return;
  const { layers } = model.model;
  const tensors = [...live].map(([name, { layer }]) => ({ name, layer }));
  if (tensors.some((tensor) => policy.mayFreeze?.(tensor, layers))) return;
  throw new ConfigError(
    `The policy ${policy.name} has nothing to freeze among the ${tensors.length} tensors that ${adapter.kind} trains.`,
    "Use an adapter with the tensors or layers that the policy names, or another policy.",
  );
}

/** @throws ConfigError for a policy that lets nothing rest, or all at once. @param reached names of what learns. */
function checkMayRest(
  { policy, adapter }: TrainerOptions,
  reached: ReadonlySet<string>,
  variants?: StepVariants,
): void {
  if (!variants?.adaptersAct) return;
  const learning = variants.sets.map((set) => [...reached].filter((name) => learnsWithout(set, name, variants)).length);
  const least = Math.min(reached.size, ...learning);
  if (0 < least && least < reached.size) return;
  throw new ConfigError(
    `The policy ${policy?.name} lets ${least === 0 ? "all" : "none"} of the ${reached.size} tensors that ${adapter.kind} trains rest.`,
    "Use an adapter with tensors in the layers that rest and in others, or another policy.",
  );
}

/** @throws ConfigError for a learning rate of the head in a run that trains none, and for a group without tensors. */
function checkGroupsLearn(
  { settings: { headLearningRate, groups = [] } }: Optimizer,
  { adapter: { kind }, model: { model } }: TrainerOptions,
  live: Preflight["live"],
): void {
  const trains = (group: Pick<ParameterGroup, "match">): boolean =>
    [...live.keys()].some((name) => belongsTo(group, name, isInHead(model, name)));
  if (headLearningRate !== undefined && !trains({ match: "head" })) {
    throw new ConfigError(
      `The optimizer has headLearningRate ${headLearningRate}, and this run trains no head.`,
      "Leave it out, or train the task's head (modulesToSave).",
    );
  }
  const empty = groups.find((group) => !trains(group));
  if (empty) {
    throw new ConfigError(
      `The optimizer's group ${groupText(empty)} matches none of the ${live.size} tensors that ${kind} trains.`,
      "Leave it out, or give a pattern that occurs in the tensors' names.",
    );
  }
}

/** @throws ConfigError for an optimizer whose state cannot be cut together with heads and neurons. */
function checkMayCut(optimizer: Optimizer, pruning: PruningPlans | undefined, live: Preflight["live"]): void {
  if (!pruning) return;
  for (const [name, { shape }] of live) {
    const other = Object.entries(optimizer.state(shape, name)).find(([, stateShape]) => !sameShape(stateShape, shape));
    if (!other) continue;
    throw new ConfigError(
      `The policy cuts heads and neurons out of ${name}, and the ${other[0]} of ${optimizer.name} has another shape.`,
      "Use an optimizer whose state has the shapes of the tensors, such as AdamW.",
    );
  }
}

/**
 * Plans a run and checks its budget; allocates nothing.
 * @param given the first batch of the data, or how to draw it.
 * @param pruning what the run plans where its policy prunes structures.
 * @throws MemoryBudgetError when the run needs more than its memory budget at any time; ConfigError or DataError for wrong
 * options.
 */
export function preflight(options: TrainerOptions, given: Batch | (() => Batch), pruning?: PruningPlans): Preflight {
  const {
    model: loaded,
    adapter,
    data,
    accumulate = 1,
    labelSmoothing = 0,
    loss,
    memory: memoryOptions = {},
  } = options;
  const { model, fragileNorms } = loaded;
  runLength(options);
  checkTrainable(model, adapter);
  const planned: PlannedModel = { model, fragileNorms };
  const side = sidePlanOptions(options, planned, pruning);
  checkRecompute(memoryOptions.recompute ?? "none");
  checkMicroBatch(memoryOptions);
  const { onNotFinite = "stop" } = options;
  if (!["stop", "skip"].includes(onNotFinite)) {
    throw new ConfigError(`onNotFinite is ${JSON.stringify(onNotFinite)}.`, "Give stop or skip.");
  }
  if (adapter.stack && options.policy?.kind === "layer_dropping" && !options.policy.adaptersAct) {
    throw new ConfigError(
      `${options.policy.name} leaves adapters out; in ${adapter.kind} they are part of how layers follow each other.`,
      "Use another policy, such as upperLayers(), or another adapter.",
    );
  }
  if (loss && labelSmoothing > 0) {
    throw new ConfigError(
      `labelSmoothing ${labelSmoothing} is of the task's loss, and the run has the loss ${loss.name}.`,
      "Leave labelSmoothing out.",
    );
  }
  if (typeof loss === "object") loss.check({ model, adapter, memory: memoryOptions });
  if (options.mergeOnFreeze) checkMergeOnFreeze(options);
  const merges = options.mergeOnFreeze ? new MergeChoice(model, adapter) : undefined;
  const budget = budgetBytes(memoryOptions);
  const specs = trainableSpecs(model, adapter);
  const first = typeof given === "function" ? given() : given;
  if (first.reference && typeof loss !== "object") {
    throw new DataError("The batches have pairs of answers.", "Give a loss of pairs: dpo() of safetape/preference.");
  }
  const together = typeof loss === "object" ? loss.rowsTogether : undefined;
  const memory = new MemoryNeeds(options, side, options.probe ?? first);
  const book: PlanBook = new PlanBook(
    {
      planned,
      traced: { adapter, labelSmoothing, loss, isTraining: options.dropout ?? true },
      limits: side.limits,
      activations: memoryOptions.activations,
      accumulates: accumulate > 1,
      variants: side.variants,
      rowsTogether: together,
      merges,
      cachesPrefix: Boolean(options.prefixCache),
      choose: (live, largestSize) =>
        chooseStep(model, memoryOptions, largestSize, {
          rowsTogether: together,
          betweenSteps: (choice) => sumBytes(memory.betweenSteps(live, book.plansWith(live, choice))),
          peak: (choice) => memory.peak(live, book, choice),
        }),
    },
    new Set(specs.keys()),
  );
  for (const shape of [first, ...(data.shapes?.() ?? [])]) book.addShape(shape);
  if (options.prefixCache) checkPrefixCache(options, first, book.prefixLayer(new Set()));
  const { reached } = book;
  checkMayRest(options, reached, side.variants);
  merges?.begin(reached);
  book.freezeTo(reached);
  const gradients = new Set(book.plans.flatMap((plan) => [...plan.gradients.keys()]));
  const live = new Map([...specs].filter(([name]) => gradients.has(name)));
  if (loss && live.size === 0) {
    throw new ConfigError(
      `The loss ${loss.name} depends on none of the ${specs.size} tensors that ${adapter.kind} trains.`,
      "Compute it from the logits.",
    );
  }
  checkMayFreeze(options, live);
  checkGroupsLearn(side.optimizer, options, live);
  checkMayCut(side.optimizer, pruning, live);
  const needs = (choice: StepChoice): number => {
    // Fewer rows at the same time are several runs, whose losses are summed.
    const sumsLosses = side.sumsLosses || choice.rows < book.choice.rows;
    const steps = book.plansWith(book.live, choice);
    return sumBytes(memory.betweenSteps(book.live, steps, { ...side, sumsLosses }));
  };
  return {
    book,
    planned,
    side,
    live,
    first,
    merges,
    needs,
    bytesForRun: () => budget - weightBytes(loaded.model) - memory.copyBytes,
  };
}
