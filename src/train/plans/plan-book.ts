import { MemoryBudgetError } from "../../base/errors";
import type { Batch } from "../../data/batch";
import { splitBatch } from "../../data/split";
import type { BatchPart, RowRange } from "../../data/split";
import { layerSection } from "../../model/forward";
import { shapeKey, shapeOf } from "../../model/model";
import type { BatchSize, Model } from "../../model/model";
import type { Limits } from "../../op/limits";
import type { ActivationFormat } from "../../op/pack";
import { explain } from "../../tape/explain";
import type { Explanation } from "../../tape/explain";
import { sumBytes } from "../../gpu/ledger";
import { executorBytes } from "../../run/footprint";
import { plan, totalFlops } from "../../tape/plan";
import type { Plan } from "../../tape/plan";
import { mainOutput, reach } from "../../tape/reach";
import { evaluationPlan } from "./evaluation-plan";
import { frozenPrefix } from "./frozen-prefix";
import type { MergeChoice } from "./merge-choice";
import type { PlannedModel } from "./planned-model";
import { halves } from "./step-choice";
import type { StepChoice } from "./step-choice";
import { learnsWithout } from "./step-variants";
import type { StepVariants } from "./step-variants";
import { HIDDEN_STATES, trace, variantKey } from "./trace";
import type { DroppedLayers, Trace, TraceOptions } from "./trace";

export interface PlanBookOptions {
  /** The model; plans follow from what it is when they are made. */
  readonly planned: PlannedModel;
  /** The adapter, and how the forward pass is traced. */
  readonly traced: Pick<TraceOptions, "adapter" | "isTraining" | "labelSmoothing" | "loss">;
  readonly limits: Limits;
  /** How activations are stored between forward and backward pass. Default f32. */
  readonly activations?: ActivationFormat | undefined;
  /** Whether a step consists of several batches, so that later ones add to the gradients of the first. */
  readonly accumulates: boolean;
  /** Sets of layers that steps leave out. Default none. */
  readonly variants?: StepVariants | undefined;
  /** Rows that a batch is not cut between. Default 1. */
  readonly rowsTogether?: number | undefined;
  /** Which LoRAs are merged into their weights while some tensors are live. Default none. */
  readonly merges?: MergeChoice | undefined;
  /** Whether steps begin at the lowest layer that changes, given the hidden states that enter it. Default false. */
  readonly cachesPrefix?: boolean;
  /**
   * How steps run while some tensors are live. Default: complete batches, nothing recomputed.
   * @throws MemoryBudgetError where no way to run them fits into the budget.
   */
  readonly choose?: (live: ReadonlySet<string>, largestSize: number) => StepChoice;
}

/** What the plans of a run follow from: the tensors that get gradients, and how steps run. */
interface Basis {
  readonly live: ReadonlySet<string>;
  readonly choice: StepChoice;
}

/** The plans of one shape of batch, or part of a batch, in one variant. */
interface ShapePlans {
  /** Forward and backward pass; overwrites the gradients. */
  readonly write: Plan;
  /** Forward and backward pass; adds to the gradients of a step's earlier runs. */
  readonly add: Plan | undefined;
  /** Computes the hidden states that both begin with, where that is above the embeddings. */
  readonly prefix: Plan | undefined;
}

const ALL_LAYERS: DroppedLayers = [];
const keyOf = (shape: BatchSize, dropped: DroppedLayers): string => `${shapeKey(shape)} without ${variantKey(dropped)}`;
const isSameChoice = (a: StepChoice, b: StepChoice): boolean =>
  a.rows === b.rows && [...a.sections].join() === [...b.sections].join();
const allOf = ({ write, add, prefix }: ShapePlans): Plan[] => [write, add, prefix].filter((own) => own !== undefined);

/**
 * The plans of a run's steps. There is one set of plans for each shape of batch and each variant, that is, each set of
 * layers that a step leaves out. A model is traced once per shape and variant; after a freeze only the planning is done
 * again. The choice says into how many rows a batch is split and what is recomputed.
 */
export class PlanBook {
  readonly #traces = new Map<string, Trace>();
  /** The model of the traces. */
  #tracedModel: Model | undefined;
  readonly #variants: readonly DroppedLayers[];
  #plans = new Map<string, ShapePlans>();
  /** Rows that run at the same time in each variant, where adapters rest. */
  #rows = new Map<string, number>();
  #shapes = new Map<string, BatchSize>();
  /** Most rows of a batch that run here, where other devices have the others. */
  #rowLimit = Infinity;
  #live: ReadonlySet<string>;
  #choice: StepChoice | undefined;
  #horizon: { readonly live: ReadonlySet<string>; readonly layer: number | undefined } | undefined;

  /** @param live the tensors that may get gradients. */
  constructor(
    private readonly options: PlanBookOptions,
    live: ReadonlySet<string>,
  ) {
    this.#live = live;
    this.#variants = [ALL_LAYERS, ...(options.variants?.sets ?? [])];
  }

  /**
   * The tensors that the steps compute gradients of. Some of them may be frozen, where a plan without their gradients does
   * not fit into the budget.
   */
  get live(): ReadonlySet<string> {
    return this.#live;
  }

  /** The shapes and variants that are planned, as plain JSON for checkpoints. */
  save(): { readonly shapes: readonly BatchSize[]; readonly variants: readonly DroppedLayers[] } {
    return { shapes: [...this.#shapes.values()], variants: this.#variants };
  }

  /** Adds a shape of batches. How steps run may change with it. @throws MemoryBudgetError where it does not fit. */
  addShape(shape: BatchSize): void {
    this.#shapes.set(shapeKey(shape), shapeOf(shape));
    this.#rows.clear();
    const before = this.#choice;
    if (!before) return;
    this.#choice = this.#choose(this.#live);
    if (!isSameChoice(before, this.#choice)) this.#plans.clear();
  }

  /**
   * Plans for at most so many rows of a batch.
   * @returns whether that changes plans, which must then be held. @throws MemoryBudgetError where they do not fit.
   */
  limitRows(rows: number): boolean {
    const before = this.#shapesThatRun();
    const [limit, choice] = [this.#rowLimit, this.#choice];
    this.#rowLimit = rows;
    this.#rows.clear();
    try {
      this.#choice = this.#choose(this.#live);
    } catch (error) {
      [this.#rowLimit, this.#choice] = [limit, choice];
      this.#rows.clear();
      throw error;
    }
    const isChanged = this.#shapesThatRun() !== before;
    if (isChanged) this.#plans.clear();
    return isChanged;
  }

  /** The shapes of batches, with as many rows as run here. */
  get #sizes(): BatchSize[] {
    return [...this.#shapes.values()].map((shape) => ({ ...shape, size: Math.min(shape.size, this.#rowLimit) }));
  }

  hasShape(shape: BatchSize): boolean {
    return this.#shapes.has(shapeKey(shape));
  }

  /** Whether steps without these layers are planned. */
  hasVariant(dropped: DroppedLayers): boolean {
    return this.#variants.some((variant) => variantKey(variant) === variantKey(dropped));
  }

  /** The shape with the most tokens. */
  get largest(): BatchSize {
    const [first, ...others] = this.#sizes;
    const tokens = ({ size, length, targetLength = 0 }: BatchSize): number => size * (length + targetLength);
    return others.reduce((a, b) => (tokens(b) > tokens(a) ? b : a), first!);
  }

  /** Remembers the shapes and their plans; the function that it returns goes back to them. */
  mark(): () => void {
    const [shapes, plans, choice] = [new Map(this.#shapes), new Map(this.#plans), this.#choice];
    return () => {
      [this.#shapes, this.#plans, this.#choice] = [shapes, plans, choice];
      this.#rows.clear();
    };
  }

  /**
   * Plans again for a smaller set of live tensors. Smaller sets rarely need more memory, but it happens: buffers are then
   * packed less well. Where the new plans do not fit into the budget, the old ones stay, and the frozen tensors keep their
   * gradients until a later freeze.
   */
  freezeTo(live: ReadonlySet<string>): void {
    const basis = this.#basisAfter(live);
    if (basis.live !== this.#live) this.#restart(basis);
  }

  /** Plans again for the same tensors, where something else that plans follow from has changed. @throws as `choose`. */
  replan(): void {
    this.#restart({ live: this.#live, choice: this.#choose(this.#live) });
  }

  /**
   * Plans for the shapes and the live tensors that a checkpoint has.
   * @throws MemoryBudgetError where they do not fit, as they did when it was written.
   */
  restore(shapes: readonly BatchSize[], live: ReadonlySet<string>): void {
    for (const shape of shapes) this.#shapes.set(shapeKey(shape), shape);
    this.#restart({ live, choice: this.#choose(live) });
  }

  #restart({ live, choice }: Basis): void {
    [this.#live, this.#choice] = [live, choice];
    if (this.options.cachesPrefix || this.options.merges) this.#traces.clear();
    this.#plans.clear();
    this.#rows.clear();
  }

  #basisAfter(live: ReadonlySet<string>): Basis {
    try {
      return { live, choice: this.#choose(live) };
    } catch (error) {
      if (!(error instanceof MemoryBudgetError) || !this.#choice) throw error;
      return { live: this.#live, choice: this.#choice };
    }
  }

  /** How steps run now. */
  get choice(): StepChoice {
    this.#choice ??= this.#choose(this.#live);
    return this.#choice;
  }

  /** Rows of the largest batch. */
  get largestSize(): number {
    return Math.max(...[...this.#shapes.values()].map(({ size }) => size));
  }

  #choose(live: ReadonlySet<string>): StepChoice {
    const largestSize = Math.min(this.largestSize, this.#rowLimit);
    return this.options.choose?.(live, largestSize) ?? { rows: largestSize, sections: new Set() };
  }

  get #basis(): Basis {
    return { live: this.#live, choice: this.choice };
  }

  /** Every plan of the run's steps. */
  get plans(): Plan[] {
    return this.#forAll(
      (dropped) => this.#rowsNow(dropped),
      (shape, dropped) => this.#planned(shape, dropped),
    );
  }

  /** Every plan that the steps would have with other live tensors, or run in another way. */
  plansWith(live: ReadonlySet<string>, choice: StepChoice): Plan[] {
    const basis = { live, choice };
    return this.#forAll(
      (dropped) => this.#rowsWithout(dropped, basis),
      (shape, dropped) => this.#planShape(shape, basis, dropped),
    );
  }

  #forAll(
    rowsOf: (dropped: DroppedLayers) => number,
    plansOf: (shape: BatchSize, dropped: DroppedLayers) => ShapePlans,
  ): Plan[] {
    return this.#variants.flatMap((dropped) =>
      this.#parts(rowsOf(dropped)).flatMap((shape) => allOf(plansOf(shape, dropped))),
    );
  }

  /** Which shapes run in which variant, to see whether they change. */
  #shapesThatRun(): string {
    const keys = this.#variants.map((dropped) =>
      this.#parts(this.#rowsNow(dropped)).map((shape) => keyOf(shape, dropped)),
    );
    return keys.flat().join();
  }

  /**
   * Rows that run at the same time in a step without these layers. Where adapters only rest, as many as can share the memory of the step
   * in which most layers rest, but for a quarter: fewer rows have smaller buffers, which no longer take each other's place.
   */
  #rowsWithout(dropped: DroppedLayers, basis: Basis): number {
    const { rows } = basis.choice;
    const { variants, rowsTogether = 1 } = this.options;
    const most = this.#variants.reduce((a, b) => (b.length > a.length ? b : a));
    if (!variants?.adaptersAct || variantKey(dropped) === variantKey(most)) return rows;
    const planOf = (size: number, layers: DroppedLayers): Plan =>
      this.#planStep(this.#largestPart(size), basis, false, layers);
    const resting = planOf(rows, most);
    const limit = 1.25 * sumBytes(executorBytes([resting]));
    const fits = (size: number): boolean => sumBytes(executorBytes([resting, planOf(size, dropped)])) <= limit;
    return halves(rows, rowsTogether).find(fits) ?? rowsTogether;
  }

  /** The same for the steps as they run now. */
  #rowsNow(dropped: DroppedLayers): number {
    const key = variantKey(dropped);
    const rows = this.#rows.get(key) ?? this.#rowsWithout(dropped, this.#basis);
    this.#rows.set(key, rows);
    return rows;
  }

  /** What the steps would be planned for after a freeze: these tensors, or those of now where that does not fit. */
  after(live: ReadonlySet<string>): { readonly live: ReadonlySet<string>; readonly plans: readonly Plan[] } {
    const basis = this.#basisAfter(live);
    return { live: basis.live, plans: this.plansWith(basis.live, basis.choice) };
  }

  /** The evaluation plan of every shape that runs at the same time, each on its own. */
  evaluationPlans(live: ReadonlySet<string>, choice: StepChoice): Plan[] {
    const { planned, limits, traced } = this.options;
    const adapter = this.#adapterWith(live);
    return this.#parts(choice.rows).map((shape) => evaluationPlan(planned, adapter, shape, limits, traced.loss));
  }

  /** Those of the live tensors that get a gradient: an adapter may have tensors that no op of the model reads. */
  get reached(): ReadonlySet<string> {
    const choice = { rows: this.largest.size, sections: new Set<string>() };
    const { gradients } = this.#planStep(this.largest, { live: this.#live, choice }, false, ALL_LAYERS);
    return new Set(gradients.keys());
  }

  /** A batch, or the rows of it that run here, in the parts that run one after the other in a step without some layers. */
  split(batch: Batch, dropped: DroppedLayers = ALL_LAYERS, range?: RowRange): BatchPart[] {
    return splitBatch(batch, Math.min(this.#rowsNow(dropped), this.#rowLimit, batch.size), range);
  }

  /**
   * The plan of a part of a batch.
   * @param isLater whether it is not the first part of its step.
   */
  planFor(part: Batch, isLater: boolean, dropped: DroppedLayers = ALL_LAYERS): Plan {
    const { write, add } = this.#planned(part, dropped);
    return isLater && add ? add : write;
  }

  /** The plan that computes what a part's steps begin with; undefined where they begin with the embeddings. */
  prefixFor(part: Batch): Plan | undefined {
    return this.#planned(part, ALL_LAYERS).prefix;
  }

  /** FLOPs of the gradients of the largest batch, split as it is now. */
  get batchFlops(): number {
    const part = this.#largestPart(this.#rowsNow(ALL_LAYERS));
    const { write, add } = this.#planned(part, ALL_LAYERS);
    const parts = Math.ceil(this.largest.size / part.size);
    return totalFlops(write) + Math.max(0, parts - 1) * totalFlops(add ?? write);
  }

  /** The layer that steps begin with while these tensors are live. */
  prefixLayer(live: ReadonlySet<string> = this.#live): number {
    return this.options.cachesPrefix
      ? frozenPrefix(this.#trace(this.largest, ALL_LAYERS, live), live, this.options.planned.model)
      : 0;
  }

  /**
   * The lowest layer through which the backward pass of a step runs, whatever learns in it or below it. Undefined where
   * backward ends above the layers.
   */
  get horizon(): number | undefined {
    if (this.#horizon?.live !== this.#live) this.#horizon = { live: this.#live, layer: this.#lowestDifferentiated() };
    return this.#horizon.layer;
  }

  #lowestDifferentiated(): number | undefined {
    const from = this.prefixLayer();
    const { tape, loss, layers } = this.#trace(this.#largestPart(this.choice.rows), ALL_LAYERS, this.#live, from);
    const withGradient = reach(tape, loss, this.#live);
    const differentiated = tape.nodes.filter((node) => withGradient.has(mainOutput(node)));
    const sections = new Set(differentiated.flatMap((node) => node.sections));
    const first = layers.findIndex((_, index) => sections.has(layerSection(from + index)));
    return first < 0 ? undefined : from + first;
  }

  /** The plan that the largest shape would have with only these tensors live, for as many rows as then run together. */
  planWith(live: ReadonlySet<string>): Plan {
    const basis = this.#basisAfter(live);
    return this.#planStep(this.#largestPart(this.#rowsWithout(ALL_LAYERS, basis)), basis, false, ALL_LAYERS);
  }

  /** What the largest shape keeps with only these tensors live, and for which gradient. */
  explain(live: ReadonlySet<string> = this.#live): Explanation {
    const basis = this.#basisAfter(live);
    const part = this.#largestPart(this.#rowsWithout(ALL_LAYERS, basis));
    const { tape } = this.#trace(part, ALL_LAYERS, basis.live, this.prefixLayer(basis.live));
    const planned = this.#planStep(part, basis, false, ALL_LAYERS);
    const isReversible = planned.rebuilt.length > 0;
    return explain(tape, planned, isReversible ? this.#planStep(part, basis, false, ALL_LAYERS, false) : planned);
  }

  /** The shapes of the parts into which batches are split, without repetition. */
  #parts(rows: number): BatchSize[] {
    const parts = this.#sizes.map((shape) => ({ ...shape, size: Math.min(shape.size, rows) }));
    return [...new Map(parts.map((part) => [shapeKey(part), part])).values()];
  }

  #largestPart(rows: number): BatchSize {
    const { largest } = this;
    return { ...largest, size: Math.min(largest.size, rows) };
  }

  /** Whether a step has several runs, the later ones of which add to the gradients of the first. */
  #accumulates({ rows }: StepChoice): boolean {
    const { accumulates, variants } = this.options;
    return accumulates || variants?.adaptersAct === true || this.#sizes.some(({ size }) => size > rows);
  }

  #planned(shape: BatchSize, dropped: DroppedLayers): ShapePlans {
    const key = keyOf(shape, dropped);
    let planned = this.#plans.get(key);
    if (!planned) {
      planned = this.#planShape(shape, this.#basis, dropped);
      this.#plans.set(key, planned);
    }
    return planned;
  }

  #planShape(shape: BatchSize, basis: Basis, dropped: DroppedLayers): ShapePlans {
    const from = this.prefixLayer(basis.live);
    return {
      write: this.#planStep(shape, basis, false, dropped),
      add: this.#accumulates(basis.choice) ? this.#planStep(shape, basis, true, dropped) : undefined,
      prefix: from > 0 ? this.#planPrefix(shape, basis.live, from) : undefined,
    };
  }

  #planStep(
    shape: BatchSize,
    { live, choice }: Basis,
    addToGradients: boolean,
    dropped: DroppedLayers,
    rebuild = true,
  ): Plan {
    const { limits, activations = "f32", variants } = this.options;
    const resting = variants?.adaptersAct ? variants : undefined;
    const { tape, loss } = this.#trace(shape, resting ? ALL_LAYERS : dropped, live, this.prefixLayer(live));
    return plan(tape, {
      outputs: { loss },
      loss,
      trainable: resting ? new Set([...live].filter((name) => learnsWithout(dropped, name, resting))) : live,
      recompute: choice.sections,
      rebuild,
      activations,
      addToGradients,
      limits,
    });
  }

  #planPrefix(shape: BatchSize, live: ReadonlySet<string>, layers: number): Plan {
    const { tape, layers: hiddenStates } = this.#trace(shape, ALL_LAYERS, live);
    return plan(tape, { outputs: { [HIDDEN_STATES]: hiddenStates[layers - 1]! }, limits: this.options.limits });
  }

  #adapterWith(live: ReadonlySet<string>) {
    const { merges, traced } = this.options;
    return merges ? merges.adapterWithout(merges.mergedWith(live)) : traced.adapter;
  }

  #trace(shape: BatchSize, dropped: DroppedLayers, live: ReadonlySet<string>, from = 0): Trace {
    const { model, fragileNorms } = this.options.planned;
    if (this.#tracedModel !== model) this.#traces.clear();
    this.#tracedModel = model;
    const merged = this.options.merges?.mergedWith(live) ?? new Set();
    const key = `${keyOf(shape, dropped)}, from layer ${from}, merged ${[...merged].join(", ")}`;
    let traced = this.#traces.get(key);
    if (!traced) {
      const adapter = this.#adapterWith(live);
      const batch = shapeOf(shape);
      const options = { ...this.options.traced, model, fragileNorms, adapter, batch, dropped, from };
      traced = trace({ ...options, differentiable: true });
      this.#traces.set(key, traced);
    }
    return traced;
  }
}
