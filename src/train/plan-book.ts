import type { Adapter } from "../adapter/adapter";
import type { Batch } from "../data/batch";
import type { BatchSize, Model } from "../model/model";
import type { Limits } from "../op/limits";
import type { ActivationFormat } from "../op/pack";
import { explain } from "../tape/explain";
import type { Explanation } from "../tape/explain";
import { plan } from "../tape/plan";
import type { Plan } from "../tape/plan";
import { trace } from "./trace";
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
  /** How kept activations are stored. */
  readonly activations?: ActivationFormat | undefined;
  /** What is run again rather than kept while some tensors are live, given the plans that a choice makes. */
  readonly recompute?: (
    live: ReadonlySet<string>,
    plansWith: (sections: ReadonlySet<string>) => readonly Plan[],
  ) => ReadonlySet<string>;
}

/** Layers whose adapter is left out. */
type Dropped = readonly number[];

/** What a plan learns, and what it runs again. */
interface Wanted {
  readonly live: ReadonlySet<string>;
  readonly sections: ReadonlySet<string>;
}

const NONE: Dropped = [];
const shapeKey = ({ size, length }: BatchSize): string => `${size} x ${length}`;
const keyOf = (shape: BatchSize, dropped: Dropped): string => `${shapeKey(shape)} without ${dropped.join(", ")}`;

/**
 * The plans of a run: traced once per batch shape, planned once per shape and set of live tensors.
 * After a freeze only the planning is done again.
 */
export class PlanBook {
  #traces = new Map<string, Trace>();
  #plans = new Map<string, { write: Plan; add: Plan | undefined }>();
  #shapes = new Map<string, BatchSize>();
  #variants = new Map<string, Dropped>([["", NONE]]);
  #sections: ReadonlySet<string> | undefined;

  constructor(
    private readonly options: PlanBookOptions,
    private live: ReadonlySet<string>,
  ) {}

  /** Makes room for a shape. */
  addShape(shape: BatchSize): void {
    this.#shapes.set(shapeKey(shape), { size: shape.size, length: shape.length });
    this.#forget();
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
    return rest.reduce((a, b) => (b.size * b.length > a.size * a.length ? b : a), first as BatchSize);
  }

  /** Every plan of the current live set. */
  get plans(): Plan[] {
    return [...this.#shapes.values()].flatMap((shape) =>
      [...this.#variants.values()].flatMap((dropped) => {
        const { write, add } = this.#planned(shape, dropped);
        return add ? [write, add] : [write];
      }),
    );
  }

  /** The plan for a batch; `isLater` for all but the first micro-batch of a step. */
  planFor(batch: Batch, isLater: boolean, dropped: Dropped = NONE): Plan {
    const { write, add } = this.#planned(batch, dropped);
    return isLater && add ? add : write;
  }

  /** Plans anew for a smaller set of live tensors. */
  freezeTo(live: ReadonlySet<string>): void {
    this.live = live;
    this.#plans.clear();
    this.#sections = undefined;
  }

  /** The choice of what is run again may be another one now; if so, everything is planned anew. */
  #forget(): void {
    if (!this.options.recompute) return;
    const before = this.#sections;
    this.#sections = undefined;
    if (before && [...before].join() !== [...this.recomputed].join()) this.#plans.clear();
  }

  /** Sections that are run again. */
  get recomputed(): ReadonlySet<string> {
    this.#sections ??= this.#choose(this.live);
    return this.#sections;
  }

  #choose(live: ReadonlySet<string>): ReadonlySet<string> {
    const { recompute } = this.options;
    return recompute?.(live, (sections) => this.#plansWith(live, sections)) ?? new Set();
  }

  /** Every plan that there would be with only these tensors live. */
  plansWith(live: ReadonlySet<string>): Plan[] {
    return this.#plansWith(live, this.#choose(live));
  }

  #plansWith(live: ReadonlySet<string>, sections: ReadonlySet<string>): Plan[] {
    const adds = this.options.accumulates ? [false, true] : [false];
    return [...this.#shapes.values()].flatMap((shape) =>
      [...this.#variants.values()].flatMap((dropped) =>
        adds.map((add) => this.#make(shape, { live, sections }, add, dropped)),
      ),
    );
  }

  /** The plan that the largest shape would have with only these tensors live. */
  planWith(live: ReadonlySet<string>, shape: BatchSize = this.largest): Plan {
    return this.#make(shape, { live, sections: this.#choose(live) }, false, NONE);
  }

  /** What the largest shape keeps with these tensors live, and for which gradient. */
  explain(live: ReadonlySet<string> = this.live): Explanation {
    return explain(this.#trace(this.largest, NONE).tape, this.planWith(live));
  }

  #planned(shape: BatchSize, dropped: Dropped): { write: Plan; add: Plan | undefined } {
    const key = keyOf(shape, dropped);
    let planned = this.#plans.get(key);
    if (!planned) {
      const wanted = { live: this.live, sections: this.recomputed };
      const add = this.options.accumulates ? this.#make(shape, wanted, true, dropped) : undefined;
      planned = { write: this.#make(shape, wanted, false, dropped), add };
      this.#plans.set(key, planned);
    }
    return planned;
  }

  #make(shape: BatchSize, { live, sections }: Wanted, addToGradients: boolean, dropped: Dropped): Plan {
    const { tape, loss } = this.#trace(shape, dropped);
    const { limits, activations = "f32" } = this.options;
    const wanted = { outputs: { loss }, loss, trainable: live, recompute: sections, activations };
    return plan(tape, { ...wanted, addToGradients, limits });
  }

  #trace(shape: BatchSize, dropped: Dropped): Trace {
    const key = keyOf(shape, dropped);
    let found = this.#traces.get(key);
    if (!found) {
      const { size, length } = shape;
      found = trace({ ...this.options, batch: { size, length }, dropped, differentiable: true });
      this.#traces.set(key, found);
    }
    return found;
  }
}
