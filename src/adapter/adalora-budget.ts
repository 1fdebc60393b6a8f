import * as v from "valibot";
import { checkSchema } from "../io/json";
import type { AdapterRun } from "./adapter";

const SAVED = v.strictObject({
  settings: v.strictObject({
    initial: v.number(),
    target: v.number(),
    warmup: v.number(),
    final: v.number(),
    every: v.number(),
    total: v.number(),
  }),
  kept: v.nullable(v.array(v.strictTuple([v.string(), v.array(v.boolean())]))),
});

/** A budget of triplets, over all modules together, and the steps in which it falls. */
export interface BudgetSettings {
  /** Triplets at the start. */
  readonly initial: number;
  /** Triplets at the end. */
  readonly target: number;
  /** Steps before pruning begins. */
  readonly warmup: number;
  /** Steps at the end without pruning. */
  readonly final: number;
  /** Steps between prunings. */
  readonly every: number;
  /** Steps of the complete run. */
  readonly total: number;
}

/** Names of a module's tensors: E [r], and A [r, in] and B [out, r] where their sensitivity counts as well. */
export interface TripletNames {
  readonly a?: string;
  readonly b?: string;
  readonly e: string;
}

/** Triplets that remain after a step: the initial budget, then a cubic fall to the target (Zhang et al. 2023, eq. 12). */
export function tripletBudget(step: number, { initial, target, warmup, final, total }: BudgetSettings): number {
  if (step <= warmup) return initial;
  if (step > total - final) return target;
  const remaining = 1 - (step - warmup) / (total - final - warmup);
  return Math.trunc((initial - target) * remaining ** 3 + target);
}

/**
 * AdaLoRA's pruning in one run, at the steps at which PEFT prunes: by importance until step `total - final`; after that, the
 * triplets pruned at that step stay pruned. A module with a frozen tensor keeps the triplets that it has.
 */
export class AdaloraBudget {
  #kept: Map<string, boolean[]> | undefined;

  constructor(private readonly settings: BudgetSettings) {}

  /** A budget that continues from what `save` returned. @throws FileFormatError for any other value. */
  static restore(value: unknown): AdaloraBudget {
    const { settings, kept } = checkSchema(SAVED, value, "AdaLoRA's budget in a checkpoint");
    const budget = new AdaloraBudget(settings);
    budget.#kept = kept === null ? undefined : new Map(kept);
    return budget;
  }

  /** Everything that the next pruning depends on, as plain JSON. */
  save(): v.InferOutput<typeof SAVED> {
    return { settings: this.settings, kept: this.#kept ? [...this.#kept] : null };
  }

  /** Which triplets of each module are kept, by the name of its E; undefined before the first pruning. */
  get kept(): ReadonlyMap<string, readonly boolean[]> | undefined {
    return this.#kept;
  }

  /** Prunes after an optimizer step where it is due. */
  async afterStep(step: number, run: AdapterRun, modules: readonly TripletNames[]): Promise<void> {
    const { warmup, final, every, total } = this.settings;
    const last = total - final;
    const isDue = step > warmup && step < last && step % every === 0;
    if (isDue || step === last) this.#kept = await this.#choose(step, run, modules);
    if (isDue || step >= last) await this.#mask(run);
  }

  async #choose(step: number, run: AdapterRun, modules: readonly TripletNames[]): Promise<Map<string, boolean[]>> {
    const scores = new Map<string, number[]>();
    /** Triplets of modules that do not learn as a whole any more. */
    const settled = new Map<string, boolean[]>();
    for (const names of modules) {
      const { a, b, e } = names;
      if ([a, b, e].every((name) => name === undefined || run.isLive(name)))
        scores.set(e, await tripletScores(run, names));
      else settled.set(e, this.#kept?.get(e) ?? Array.from(await run.read(e), () => true));
    }
    const removedBefore = [...settled.values()].flat().filter((isKept) => !isKept).length;
    const removed = this.settings.initial - tripletBudget(step, this.settings) - removedBefore;
    // A module keeps its best triplet, since it cannot have rank 0.
    const bests = new Map([...scores].map(([e, ofModule]) => [e, ofModule.indexOf(Math.max(...ofModule))]));
    const others = [...scores].flatMap(([e, ofModule]) => ofModule.filter((_, k) => k !== bests.get(e)));
    const sorted = others.sort((a, b) => a - b);
    const threshold = removed > 0 ? (sorted[Math.min(removed, sorted.length) - 1] ?? -Infinity) : -Infinity;
    const chosen = [...scores].map(([e, ofModule]) => {
      return [e, ofModule.map((score, k) => score > threshold || k === bests.get(e))] as const;
    });
    return new Map([...settled, ...chosen]);
  }

  /** Sets pruned elements of every E to 0. */
  async #mask(run: AdapterRun): Promise<void> {
    for (const [name, kept] of this.#kept ?? []) {
      const values = await run.read(name);
      if (values.some((value, i) => value !== 0 && !kept[i])) {
        run.write(
          name,
          values.map((value, i) => (kept[i] ? value : 0)),
        );
      }
    }
  }
}

/** Importance of each triplet: that of its element of E plus the means over its row of A and its column of B (eq. 8). */
async function tripletScores(run: AdapterRun, { a, b, e }: TripletNames): Promise<number[]> {
  const element = async (name: string | undefined): Promise<number[]> => {
    if (name === undefined) return [];
    const { mean, uncertainty } = await run.statistics(name);
    return Array.from(mean, (value, i) => value * uncertainty[i]!);
  };
  const [scoresA, scoresB, scoresE] = [await element(a), await element(b), await element(e)];
  const rank = scoresE.length;
  const [inSize, outSize] = [scoresA.length / rank, scoresB.length / rank];
  return scoresE.map((scoreE, k) => {
    let [row, column] = [0, 0];
    for (let j = 0; j < inSize; j++) row += scoresA[k * inSize + j]!;
    for (let i = 0; i < outSize; i++) column += scoresB[i * rank + k]!;
    return scoreE + (inSize && row / inSize) + (outSize && column / outSize);
  });
}
