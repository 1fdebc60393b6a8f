import * as v from "valibot";
import { checkSchema } from "../io/json";

const COUNT = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const FREEZE = v.strictObject({ step: COUNT, fraction: v.number(), frozen: v.array(v.string()) });
const SAVED = v.strictObject({
  start: v.number(),
  end: v.number(),
  total: v.nullable(COUNT),
  frozen: COUNT,
  history: v.array(FREEZE),
});

export interface AfloraSpan {
  /** Step t_i of the first freeze. */
  readonly start: number;
  /** Step T - t_f from which on everything is frozen. */
  readonly end: number;
}

/** AFLoRA's schedule on a sequence of scores, apart from any training. */
export class AfloraSchedule {
  /** Projection matrices at the start; known at the first decision. */
  #total: number | undefined;
  #frozen = 0;
  #history: { step: number; fraction: number; frozen: string[] }[] = [];

  constructor(readonly span: AfloraSpan) {}

  /** One that goes on where another was saved. @throws FileFormatError for what none saves. */
  static restore(value: unknown): AfloraSchedule {
    const { start, end, total, frozen, history } = checkSchema(SAVED, value, "AFLoRA's schedule in a checkpoint");
    const schedule = new AfloraSchedule({ start, end });
    schedule.#total = total ?? undefined;
    schedule.#frozen = frozen;
    schedule.#history = history;
    return schedule;
  }

  /** Everything that its next decisions depend on, and what it has decided; plain JSON. */
  save(): v.InferOutput<typeof SAVED> {
    return { ...this.span, total: this.#total ?? null, frozen: this.#frozen, history: [...this.#history] };
  }

  /** Share of the matrices that is to be frozen at a step, r(t) of eq. 5. */
  fraction(step: number): number {
    const { start, end } = this.span;
    if (step >= end) return 1;
    if (step < start) return 0;
    return 1 - (1 - (step - start) / (end - start)) ** 3;
  }

  /** Takes the scores of the live matrices and says which of them freeze now: the lowest, as many as are due. */
  next(step: number, scores: ReadonlyMap<string, number>): string[] {
    this.#total ??= scores.size;
    const fraction = this.fraction(step);
    const due = Math.floor(this.#total * fraction) - this.#frozen;
    const lowest = [...scores].sort(([, a], [, b]) => a - b).map(([name]) => name);
    const chosen = lowest.slice(0, Math.max(0, due));
    this.#frozen += chosen.length;
    if (chosen.length > 0) this.#history.push({ step, fraction, frozen: chosen });
    return chosen;
  }

  /** Everything that was decided, for the run's record. */
  record(): Record<string, unknown> {
    return { start: this.span.start, end: this.span.end, matrices: this.#total, history: this.#history };
  }
}

/** The published code's share of elements that the threshold is to lie above: eq. 5, but all of them only after T - t_f. */
export function publishedFraction(step: number, { start, end }: AfloraSpan): number {
  if (step <= start) return 0;
  return step > end ? 1 : 1 - (1 - (step - start) / (end - start)) ** 3;
}

/**
 * The published code's choice: tensors whose mean score lies below the floor(N fraction)-th smallest score of the N elements
 * of all of them together.
 */
export function belowThreshold(scores: ReadonlyMap<string, Float32Array>, fraction: number): string[] {
  const all = new Float32Array([...scores.values()].reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const values of scores.values()) {
    all.set(values, at);
    at += values.length;
  }
  const rank = Math.floor(all.length * fraction);
  if (rank === 0) return [];
  const threshold = all.sort()[rank - 1]!;
  const mean = (values: Float32Array): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  return [...scores].filter(([, values]) => mean(values) < threshold).map(([name]) => name);
}
