import type { Adapter } from "../../adapter/adapter";
import type { Batch } from "../../data/batch";
import { splitBatch } from "../../data/split";
import type { BatchPart } from "../../data/split";
import type { BatchSize, Model } from "../../model/model";
import type { Limits } from "../../op/limits";
import type { ActivationFormat } from "../../op/pack";
import { explain } from "../../tape/explain";
import type { Explanation } from "../../tape/explain";
import { plan, totalFlops } from "../../tape/plan";
import type { Plan } from "../../tape/plan";
import type { StepChoice } from "./step-choice";
import type { MergeChoice } from "./merge-choice";
import { frozenPrefix } from "./frozen-prefix";
import { HIDDEN_STATES, trace } from "./trace";
import type { Trace } from "./trace";

export interface PlanBookOptions {
  readonly model: Model;
  readonly adapter: Adapter;
  readonly labelSmoothing: number;
  readonly fragileNorms: ReadonlySet<string>;
  readonly limits: Limits;
  /** Whether dropout acts. */
  readonly isTraining: boolean;
  /** Whether later micro-batches add to the gradients of the first. */
  readonly accumulates: boolean;
  /** Whether steps begin at the lowest layer that changes, given what enters it. */
  readonly cachesPrefix?: boolean;
  /** Which LoRAs are merged into their weights, and how the adapter then acts. */
  readonly merges?: MergeChoice | undefined;
  /** How kept activations are stored. */
  readonly activations?: ActivationFormat | undefined;
  /**
   * How steps run while some tensors are live, given the rows of the largest batch and the plans that a choice makes.
   * Default: whole batches, nothing run again.
   */
  readonly choose?: (
    live: ReadonlySet<string>,
    size: number,
    plansWith: (choice: StepChoice) => readonly Plan[],
  ) => StepChoice;
}

/** Layers whose adapter is left out. */
type Dropped = readonly number[];

/** The plans of one batch shape. */
interface Planned {
  readonly write: Plan;
  /** Adds to the gradients of earlier runs. */
  readonly add: Plan | undefined;
  /** Computes what enters the layer that both begin with. */
  readonly prefix: Plan | undefined;
}

/** What a plan learns, and how it runs. */
interface Wanted {
  readonly live: ReadonlySet<string>;
  readonly choice: StepChoice;
}

const NONE: Dropped = [];
const keyOfChoice = ({ rows, sections }: StepChoice): string => `${rows}: ${[...sections].join()}`;
const shapeKey = ({ size, length }: BatchSize): string => `${size} x ${length}`;
const keyOf = (shape: BatchSize, dropped: Dropped): string => `${shapeKey(shape)} without ${dropped.join(", ")}`;
const allOf = ({ write, add, prefix }: Planned): Plan[] => [write, add, prefix].filter((one) => one !== undefined);

/**
 * The plans of a run: traced once per batch shape, planned once per shape and set of live tensors.
 * After a freeze only the planning is done again.
 */
export class PlanBook {
  #traces = new Map<string, Trace>();
  #plans = new Map<string, Planned>();
  #shapes = new Map<string, BatchSize>();
  #variants = new Map<string, Dropped>([["", NONE]]);
  #choice: StepChoice | undefined;

  constructor(
    private readonly options: PlanBookOptions,
    private live: ReadonlySet<string>,
  ) {}

  /** Whether a tensor still learns. */
  isLive(name: string): boolean {
    return this.live.has(name);
  }

  /** Makes room for a shape. */
  addShape(shape: BatchSize): void {
    this.#shapes.set(shapeKey(shape), { size: shape.size, length: shape.length });
    this.#forget();
  }

  /** Shapes and variants that it has room for, in the order in which they came; plain JSON. */
  save(): { readonly shapes: readonly BatchSize[]; readonly variants: readonly Dropped[] } {
    return { shapes: [...this.#shapes.values()], variants: [...this.#variants.values()] };
  }

  hasShape(shape: BatchSize): boolean {
    return this.#shapes.has(shapeKey(shape));
  }

  /** Makes room for steps without some layers' adapters; whether that is new. */
  addVariant(dropped: Dropped): boolean {
    const isNew = !this.#variants.has(dropped.join(", "));
    this.#variants.set(dropped.join(", "), dropped);
    if (isNew) this.#forget();
    return isNew;
  }

  /** Shape with the most tokens: the one that decides the peak. */
  get largest(): BatchSize {
    const [first, ...rest] = this.#shapes.values();
    return rest.reduce((a, b) => (b.size * b.length > a.size * a.length ? b : a), first!);
  }

  /** Every plan of the current live set. */
  get plans(): Plan[] {
    return this.#parts(this.choice).flatMap((shape) =>
      [...this.#variants.values()].flatMap((dropped) => allOf(this.#planned(shape, dropped))),
    );
  }

  /** A batch in the parts that run at once. */
  split(batch: Batch): BatchPart[] {
    return splitBatch(batch, this.choice.rows);
  }

  /** The plan for a part of a batch; `isLater` for all but the first part of a step. */
  planFor(part: Batch, isLater: boolean, dropped: Dropped = NONE): Plan {
    const { write, add } = this.#planned(part, dropped);
    return isLater && add ? add : write;
  }

  /** The plan that computes what a part's steps begin with; undefined where they begin with the embeddings. */
  prefixFor(part: Batch): Plan | undefined {
    return this.#planned(part, NONE).prefix;
  }

  /** FLOPs of the gradients of the largest batch as its parts run now. */
  get batchFlops(): number {
    const { write, add } = this.#planned(this.#largestPart(this.choice), NONE);
    const parts = Math.ceil(this.largest.size / this.choice.rows);
    return totalFlops(write) + Math.max(0, parts - 1) * totalFlops(add ?? write);
  }

  /** The layer that steps begin with while so much is live. */
  prefixLayer(live: ReadonlySet<string> = this.live): number {
    return this.options.cachesPrefix ? frozenPrefix(this.#trace(this.largest, NONE, live), live) : 0;
  }

  /** Shapes of what runs at once, each one once. */
  #parts({ rows }: StepChoice): BatchSize[] {
    const parts = [...this.#shapes.values()].map(({ size, length }) => ({ size: Math.min(size, rows), length }));
    return [...new Map(parts.map((part) => [shapeKey(part), part])).values()];
  }

  /** Whether later runs of a step add to the gradients of the first. */
  #accumulates({ rows }: StepChoice): boolean {
    return this.options.accumulates || [...this.#shapes.values()].some(({ size }) => size > rows);
  }

  /** Every plan that there would be if steps ran otherwise. */
  plansBy(choice: StepChoice): Plan[] {
    return this.#plansWith(this.live, choice);
  }

  /** Takes note of shapes, variants and plans; what is given back goes back to them. */
  mark(): () => void {
    const [shapes, variants, plans] = [new Map(this.#shapes), new Map(this.#variants), new Map(this.#plans)];
    const choice = this.#choice;
    return () => {
      [this.#shapes, this.#variants, this.#plans, this.#choice] = [shapes, variants, plans, choice];
    };
  }

  /** Plans anew for a smaller set of live tensors. */
  freezeTo(live: ReadonlySet<string>): void {
    this.live = live;
    if (this.options.cachesPrefix || this.options.merges) this.#traces.clear();
    this.#plans.clear();
    this.#choice = undefined;
  }

  /** The choice may be another one now; if so, everything is planned anew. */
  #forget(): void {
    const before = this.#choice;
    this.#choice = undefined;
    if (before && keyOfChoice(before) !== keyOfChoice(this.choice)) this.#plans.clear();
  }

  /** How steps run now. */
  get choice(): StepChoice {
    this.#choice ??= this.#choose(this.live);
    return this.#choice;
  }

  #choose(live: ReadonlySet<string>): StepChoice {
    const size = Math.max(...[...this.#shapes.values()].map((shape) => shape.size));
    const chosen = this.options.choose?.(live, size, (choice) => this.#plansWith(live, choice));
    return chosen ?? { rows: size, sections: new Set() };
  }

  /** Every plan that there would be with only these tensors live. */
  plansWith(live: ReadonlySet<string>): Plan[] {
    return this.#plansWith(live, this.#choose(live));
  }

  #plansWith(live: ReadonlySet<string>, choice: StepChoice): Plan[] {
    return this.#parts(choice).flatMap((shape) =>
      [...this.#variants.values()].flatMap((dropped) => allOf(this.#makeAll(shape, { live, choice }, dropped))),
    );
  }

  /** The plan that the largest shape would have with only these tensors live, for the rows that run at once. */
  planWith(live: ReadonlySet<string>): Plan {
    const choice = this.#choose(live);
    return this.#make(this.#largestPart(choice), { live, choice }, false, NONE);
  }

  #largestPart({ rows }: StepChoice): BatchSize {
    const { size, length } = this.largest;
    return { size: Math.min(size, rows), length };
  }

  /** What the largest shape keeps with these tensors live, and for which gradient. */
  explain(live: ReadonlySet<string> = this.live): Explanation {
    const part = this.#largestPart(this.#choose(live));
    return explain(this.#trace(part, NONE, live, this.prefixLayer(live)).tape, this.planWith(live));
  }

  #planned(shape: BatchSize, dropped: Dropped): Planned {
    const key = keyOf(shape, dropped);
    let planned = this.#plans.get(key);
    if (!planned) {
      planned = this.#makeAll(shape, { live: this.live, choice: this.choice }, dropped);
      this.#plans.set(key, planned);
    }
    return planned;
  }

  #makeAll(shape: BatchSize, wanted: Wanted, dropped: Dropped): Planned {
    const from = this.prefixLayer(wanted.live);
    return {
      write: this.#make(shape, wanted, false, dropped),
      add: this.#accumulates(wanted.choice) ? this.#make(shape, wanted, true, dropped) : undefined,
      prefix: from > 0 ? this.#makePrefix(shape, wanted.live, from) : undefined,
    };
  }

  #makePrefix(shape: BatchSize, live: ReadonlySet<string>, layers: number): Plan {
    const { tape, layers: values } = this.#trace(shape, NONE, live);
    return plan(tape, { outputs: { [HIDDEN_STATES]: values[layers - 1]! }, limits: this.options.limits });
  }

  #make(shape: BatchSize, { live, choice }: Wanted, addToGradients: boolean, dropped: Dropped): Plan {
    const { tape, loss } = this.#trace(shape, dropped, live, this.prefixLayer(live));
    const { limits, activations = "f32" } = this.options;
    const wanted = { outputs: { loss }, loss, trainable: live, recompute: choice.sections, activations };
    return plan(tape, { ...wanted, addToGradients, limits });
  }

  #trace(shape: BatchSize, dropped: Dropped, live: ReadonlySet<string>, from = 0): Trace {
    const { merges } = this.options;
    const merged = merges?.of(live) ?? new Set();
    const key = `${keyOf(shape, dropped)}, from layer ${from}, merged ${[...merged].join(", ")}`;
    let found = this.#traces.get(key);
    if (!found) {
      const { size, length } = shape;
      const adapter = merges?.adapterWith(merged) ?? this.options.adapter;
      found = trace({ ...this.options, adapter, batch: { size, length }, dropped, from, differentiable: true });
      this.#traces.set(key, found);
    }
    return found;
  }
}
