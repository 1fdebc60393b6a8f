import type { Shape } from "../../base/shape";
import type { Batch } from "../../data/batch";
import { importanceReference } from "../../freeze/policy";
import type { ImportanceReference } from "../../freeze/policy";
import type { Model } from "../../model/model";
import { sumBytes } from "../../gpu/ledger";
import type { Bytes } from "../../gpu/ledger";
import { specBytes } from "../../tape/emit";
import type { Plan } from "../../tape/plan";
import type { TrainerOptions } from "../options";
import { mergedTensors } from "../plans/merge-choice";
import { checkComparable, comparisonPlans, probeBatches } from "../plans/comparison-trace";
import { footprint } from "../plans/footprint";
import type { PlanBook } from "../plans/plan-book";
import { sidePlans } from "../plans/side-plans";
import type { SidePlanOptions } from "../plans/side-plans";
import { scorePlan } from "../plans/statistics-plan";
import type { StepChoice } from "../plans/step-choice";
import { stateBuffers } from "../tensors/arenas";
import { companionsOf } from "../tensors/names";
import type { Companion } from "../tensors/names";
import { fixedSpecs, trainableSpecs } from "../tensors/specs";
import type { TrainableSpec } from "../tensors/specs";

/** What a run needs of GPU memory, known before it has any. */
export class MemoryNeeds {
  readonly #specs = new WeakMap<Model, ReadonlyMap<string, TrainableSpec>>();
  /** Tensors that a policy may mask before the first step. Which of them it masks is known only then. */
  readonly #maskable: ReadonlySet<string>;
  readonly #reference: ImportanceReference | undefined;
  readonly #probe: readonly Batch[];
  #comparisons: readonly Plan[] | undefined;
  /** Bytes of the largest tensor that the run copies to the host: a copy needs a buffer of its size. */
  readonly copyBytes: number;

  /**
   * @param probe what a policy's scores are computed on.
   * @throws ConfigError for a policy that compares layers with a reference that the adapter does not leave, and for a probe
   * without batches.
   */
  constructor(
    private readonly options: TrainerOptions,
    private readonly side: SidePlanOptions,
    probe: Batch | readonly Batch[],
  ) {
    const { policy, adapter, model: loaded } = options;
    this.#reference = importanceReference(policy);
    this.#probe = probeBatches(probe);
    if (this.#reference) checkComparable(adapter, this.#reference);
    const maskable = [...trainableSpecs(loaded.model, adapter)]
      .filter(([, { layer }]) => typeof layer === "number")
      .map(([name]) => name);
    this.#maskable = new Set(policy?.kind === "weight_pruning" ? maskable : []);
    this.copyBytes = largestCopy(options);
  }

  /** Bytes between two steps, by lifetime. Equals the ledger, except that a policy may mask fewer tensors. */
  betweenSteps(live: ReadonlySet<string>, steps: readonly Plan[], side: SidePlanOptions = this.side): Bytes {
    return this.#holding([...steps, ...this.#sidePlans(live, side)], live);
  }

  /**
   * Bytes at the run's worst moment, by lifetime, while these tensors are live. The plans of an evaluation or of scoring take
   * the place of the steps' plans where both do not fit, so that the largest of them counts and not their sum.
   */
  peak(live: ReadonlySet<string>, book: PlanBook, choice: StepChoice): Bytes {
    const steps = [...book.plansWith(live, choice), ...this.#sidePlans(live)];
    const others = [...book.evaluationPlans(live, choice), ...this.#scoringPlans(live)];
    const moments = [steps, ...others.map((plan) => [plan])].map((plans) => this.#holding(plans, live));
    const largest = moments.reduce((a, b) => (sumBytes(b) > sumBytes(a) ? b : a));
    const withoutPlans = this.#holding([], live);
    const copyWithoutPlans = Math.max(tableBytes(this.options), this.#compactionBytes(live), this.#moveBytes(live));
    const free = Math.max(this.copyBytes, copyWithoutPlans + sumBytes(withoutPlans) - sumBytes(largest));
    return { ...largest, scratch: largest.scratch + free };
  }

  #holding(plans: readonly Plan[], live: ReadonlySet<string>): Bytes {
    const { planned, adapter } = this.side;
    return footprint(planned.model, adapter, plans, (name, shape) => this.#companions(live, name, shape));
  }

  #companions(live: ReadonlySet<string>, name: string, shape: Shape): readonly Companion[] {
    if (!live.has(name)) return [];
    const { optimizer, statistics } = this.side;
    return companionsOf(name, shape, { optimizer, statistics, isMasked: this.#maskable.has(name) });
  }

  /** Bytes of the largest buffer of several tensors: where some of them are frozen, the others move while no plan is held. */
  #moveBytes(live: ReadonlySet<string>): number {
    const { planned, adapter } = this.side;
    const companions = (name: string, shape: Shape): readonly Companion[] => this.#companions(live, name, shape);
    const buffers = [...stateBuffers(planned.model, adapter, companions).values()];
    return Math.max(0, ...buffers.filter(({ tensors }) => tensors.size > 1).map(({ bytes }) => bytes));
  }

  /**
   * Most bytes that a compaction needs in addition, while no plan is held: the smaller tensors of one structure, at most as
   * large as the old ones, and a copy of one of these on its way to the host.
   */
  #compactionBytes(live: ReadonlySet<string>): number {
    const { planned, adapter, pruning } = this.side;
    if (!pruning) return 0;
    const { model } = planned;
    const weights = new Map(model.parameters.map(({ name, shape }) => [name, specBytes({ shape, dtype: "f32" })]));
    const specs = new Map([...this.#allSpecs(), ...fixedSpecs(model, adapter)]);
    const needs = pruning.tensors(model).map((names) => {
      const runBytes = names.flatMap((name) => {
        const spec = specs.get(name);
        const all = spec ? [spec, ...this.#companions(live, name, spec.shape)] : [];
        return all.map(({ shape }) => specBytes({ shape, dtype: "f32" }));
      });
      const weightBytes = names.map((name) => weights.get(name) ?? 0);
      return [...runBytes, ...weightBytes].reduce((sum, bytes) => sum + bytes, 0) + Math.max(...weightBytes);
    });
    return Math.max(0, ...needs);
  }

  #sidePlans(live: ReadonlySet<string>, side: SidePlanOptions = this.side): readonly Plan[] {
    const masked = new Set([...this.#maskable].filter((name) => live.has(name)));
    return sidePlans(side, this.#specsOf(live), masked).all;
  }

  #specsOf(names: ReadonlySet<string>): ReadonlyMap<string, TrainableSpec> {
    return new Map([...this.#allSpecs()].filter(([name]) => names.has(name)));
  }

  #allSpecs(): ReadonlyMap<string, TrainableSpec> {
    const { planned, adapter } = this.side;
    const specs = this.#specs.get(planned.model) ?? trainableSpecs(planned.model, adapter);
    this.#specs.set(planned.model, specs);
    return specs;
  }

  /** The plans that the policy runs to score layers or tensors. */
  #scoringPlans(live: ReadonlySet<string>): readonly Plan[] {
    const { policy } = this.options;
    const { limits } = this.side;
    if (policy?.kind !== "freezing") return [];
    const plans: Plan[] = [];
    if (this.#reference) plans.push(...(this.#comparisons ??= this.#comparisonPlans(this.#reference)));
    const scored = [...this.#specsOf(live)].filter(([name]) => policy.statistics?.applies(name));
    if (scored.length > 0) plans.push(scorePlan(new Map(scored), limits));
    return plans;
  }

  /** The plan for each shape of the probe's batches; one of them is held at a time. */
  #comparisonPlans(reference: ImportanceReference): Plan[] {
    const { model: loaded, adapter } = this.options;
    return [...new Set(comparisonPlans(loaded, adapter, this.#probe, this.side.limits, { reference }).values())];
  }
}

/** Bytes of the largest tensor that a run copies to the host. */
function largestCopy({ model: { model }, adapter, mergeOnFreeze }: TrainerOptions): number {
  const sizes = [...trainableSpecs(model, adapter), ...fixedSpecs(model, adapter)].map(([, spec]) => specBytes(spec));
  const merged = mergeOnFreeze ? mergedTensors(model, adapter) : undefined;
  for (const { name, shape, dtype = "f32" } of model.parameters) {
    const isMerged = (merged?.get(name.replace(/\.weight$/, "")) ?? []).length > 0;
    // Vectors may be read to tell models of the same configuration apart, when a checkpoint is made.
    if (isMerged || shape.length === 1) sizes.push(specBytes({ shape, dtype }));
  }
  return Math.max(0, ...sizes);
}

/** Bytes of the largest table that is copied to the host to give tensors their first values; rows of f32 tables are read alone. */
function tableBytes({ model: { model }, adapter }: TrainerOptions): number {
  const tensors = adapter.tensors(model);
  const tables = new Set(tensors.map(({ initialRows }) => initialRows?.table));
  const weights = new Set(tensors.map(({ initialFrom }) => initialFrom?.weight));
  const copied = model.parameters.filter(
    ({ name, dtype = "f32" }) => weights.has(name) || (tables.has(name) && dtype !== "f32"),
  );
  return Math.max(0, ...copied.map(({ shape, dtype = "f32" }) => specBytes({ shape, dtype })));
}
