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

export interface BudgetSettings {
  /** Triplets of all modules together, at the start and at the end. */
  readonly initial: number;
  readonly target: number;
  /** Steps before pruning begins, without it at the end, and between prunings. */
  readonly warmup: number;
  readonly final: number;
  readonly every: number;
  readonly total: number;
}

/** Names of a module's three tensors. */
export interface TripletNames {
  readonly a: string;
  readonly b: string;
  readonly e: string;
}

/** Triplets that may live after a step (AdaLoRA, eq. 12): the initial budget, then a cubic fall to the target. */
export function tripletBudget(step: number, { initial, target, warmup, final, total }: BudgetSettings): number {
  if (step <= warmup) return initial;
  if (step > total - final) return target;
  const left = 1 - (step - warmup) / (total - final - warmup);
  return Math.trunc((initial - target) * left ** 3 + target);
}

/**
 * AdaLoRA's pruning through a run, with PEFT's moments: by importance until `total - final`, then as decided there. A module
 * with a frozen tensor keeps the triplets that it has then.
 */
export class AdaloraBudget {
  #kept: Map<string, boolean[]> | undefined;

  constructor(private readonly settings: BudgetSettings) {}

  /** One that goes on where another was saved. @throws FileFormatError for what none saves. */
  static restore(value: unknown): AdaloraBudget {
    const { settings, kept } = checkSchema(SAVED, value, "AdaLoRA's budget in a checkpoint");
    const budget = new AdaloraBudget(settings);
    budget.#kept = kept === null ? undefined : new Map(kept);
    return budget;
  }

  /** Everything that its next pruning depends on; plain JSON. */
  save(): v.InferOutput<typeof SAVED> {
    return { settings: this.settings, kept: this.#kept ? [...this.#kept] : null };
  }

  /** Which triplets of each E live, by its name; undefined before the first pruning. */
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
    const settled = new Map<string, boolean[]>();
    for (const names of modules) {
      const { a, b, e } = names;
      if ([a, b, e].every((name) => run.isLive(name))) scores.set(e, await tripletScores(run, names));
      else settled.set(e, this.#kept?.get(e) ?? (await run.read(e)).reduce<boolean[]>((all) => [...all, true], []));
    }
    const gone = [...settled.values()].flat().filter((isKept) => !isKept).length;
    const removed = this.settings.initial - tripletBudget(step, this.settings) - gone;
    const sorted = [...scores.values()].flat().sort((a, b) => a - b);
    const threshold = removed > 0 ? (sorted[Math.min(removed, sorted.length) - 1] ?? -Infinity) : -Infinity;
    return new Map([...settled, ...[...scores].map(([name, own]) => [name, keepOne(own, threshold)] as const)]);
  }

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

/** Importance of each triplet (AdaLoRA, eq. 8): that of E, and the means of its row of A and its column of B. */
async function tripletScores(run: AdapterRun, { a, b, e }: TripletNames): Promise<number[]> {
  const element = async (name: string): Promise<number[]> => {
    const { mean, uncertainty } = await run.statistics(name);
    return Array.from(mean, (value, i) => value * uncertainty[i]!);
  };
  const [ofA, ofB, ofE] = [await element(a), await element(b), await element(e)];
  const rank = ofE.length;
  const [inner, outer] = [ofA.length / rank, ofB.length / rank];
  return ofE.map((own, k) => {
    let [row, column] = [0, 0];
    for (let j = 0; j < inner; j++) row += ofA[k * inner + j]!;
    for (let i = 0; i < outer; i++) column += ofB[i * rank + k]!;
    return own + row / inner + column / outer;
  });
}

/** What is above the threshold; where nothing is, the best one, since a module cannot have a rank of 0. */
function keepOne(scores: readonly number[], threshold: number): boolean[] {
  const kept = scores.map((score) => score > threshold);
  if (kept.every((own) => !own)) kept[scores.indexOf(Math.max(...scores))] = true;
  return kept;
}
