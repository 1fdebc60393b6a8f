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

/** Steps between which AFLoRA's share of frozen matrices rises from 0 to 1. */
export interface AfloraSpan {
  /** Step t_i of the first freeze. */
  readonly start: number;
  /** Step T - t_f from which on everything is frozen. */
  readonly end: number;
}

/** AFLoRA's schedule on a sequence of scores (Liu et al. 2024, eq. 5), independent of any training. */
export class AfloraSchedule {
  /** Projection matrices that learn at the start; known at the first decision. */
  #total: number | undefined;
  /** How many of them are frozen. */
  #frozen = 0;
  #history: v.InferOutput<typeof FREEZE>[] = [];

  constructor(readonly span: AfloraSpan) {}

  /** A schedule that continues from what `save` returned. @throws FileFormatError for any other value. */
  static restore(value: unknown): AfloraSchedule {
    const { start, end, total, frozen, history } = checkSchema(SAVED, value, "AFLoRA's schedule in a checkpoint");
    const schedule = new AfloraSchedule({ start, end });
    schedule.#total = total ?? undefined;
    schedule.#frozen = frozen;
    schedule.#history = history;
    return schedule;
  }

  /** Past decisions and everything that the next ones depend on, as plain JSON. */
  save(): v.InferOutput<typeof SAVED> {
    return { ...this.span, total: this.#total ?? null, frozen: this.#frozen, history: [...this.#history] };
  }

  /** Share r(t) of the matrices to be frozen at a step (eq. 5). */
  fraction(step: number): number {
    const { start, end } = this.span;
    if (step >= end) return 1;
    if (step < start) return 0;
    return 1 - (1 - (step - start) / (end - start)) ** 3;
  }

  /**
   * Decides at a step.
   * @param scores of the live matrices, by name.
   * @returns the matrices that freeze now: those of the lowest scores, as many as are due.
   */
  next(step: number, scores: ReadonlyMap<string, number>): string[] {
    this.#total ??= scores.size;
    const fraction = this.fraction(step);
    const due = Math.floor(this.#total * fraction) - this.#frozen;
    const ascending = [...scores].sort(([, a], [, b]) => a - b).map(([name]) => name);
    const frozen = ascending.slice(0, Math.max(0, due));
    this.#frozen += frozen.length;
    if (frozen.length > 0) this.#history.push({ step, fraction, frozen });
    return frozen;
  }

  /** Everything that was decided, for the run's record. */
  record(): Record<string, unknown> {
    return { start: this.span.start, end: this.span.end, matrices: this.#total, history: this.#history };
  }
}

/** The published code's share of elements below the threshold: eq. 5, but 1 only after step T - t_f instead of at it. */
export function publishedFraction(step: number, { start, end }: AfloraSpan): number {
  if (step <= start) return 0;
  return step > end ? 1 : 1 - (1 - (step - start) / (end - start)) ** 3;
}

/**
 * Tensors that the published code freezes: those whose mean score is below the floor(N fraction)-th smallest of the N
 * elements of all tensors together.
 */
export function belowThreshold(scores: ReadonlyMap<string, Float32Array>, fraction: number): string[] {
  const all = new Float32Array([...scores.values()].reduce((sum, { length }) => sum + length, 0));
  let offset = 0;
  for (const values of scores.values()) {
    all.set(values, offset);
    offset += values.length;
  }
  const rank = Math.floor(all.length * fraction);
  if (rank === 0) return [];
  const threshold = all.sort()[rank - 1]!;
  const mean = (values: Float32Array): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  return [...scores].filter(([, values]) => mean(values) < threshold).map(([name]) => name);
}
