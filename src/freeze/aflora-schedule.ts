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

/** Names what a matrix freezes with: itself, or its module with both of its matrices. */
export type UnitOf = (matrix: string) => string;

/** Every matrix freezes on its own. */
const itself: UnitOf = (matrix) => matrix;

/** Matrices that freeze together. */
interface Unit {
  readonly matrices: readonly string[];
  /** Mean of their scores. */
  readonly score: number;
}

/** Matrices by the units in which they freeze, in the order of the scores. */
function unitsOf(scores: ReadonlyMap<string, number>, unitOf: UnitOf): Unit[] {
  const units = new Map<string, string[]>();
  for (const matrix of scores.keys()) units.set(unitOf(matrix), [...(units.get(unitOf(matrix)) ?? []), matrix]);
  return [...units.values()].map((matrices) => {
    const total = matrices.reduce((sum, matrix) => sum + scores.get(matrix)!, 0);
    return { matrices, score: total / matrices.length };
  });
}

/** AFLoRA's schedule on a sequence of scores (Liu et al. 2024, eq. 5), independent of any training. */
export class AfloraSchedule {
  /** Units that learn at the start; known at the first decision. */
  #total: number | undefined;
  /** How many of them are frozen. */
  #frozen = 0;
  #history: v.InferOutput<typeof FREEZE>[] = [];

  constructor(
    readonly span: AfloraSpan,
    private readonly unitOf: UnitOf = itself,
  ) {}

  /** A schedule that continues from what `save` returned. @throws FileFormatError for any other value. */
  static restore(value: unknown, unitOf?: UnitOf): AfloraSchedule {
    const { start, end, total, frozen, history } = checkSchema(SAVED, value, "AFLoRA's schedule in a checkpoint");
    const schedule = new AfloraSchedule({ start, end }, unitOf);
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
   * @returns the matrices that freeze now: the units of the lowest scores, as many as are due.
   */
  next(step: number, scores: ReadonlyMap<string, number>): string[] {
    const units = unitsOf(scores, this.unitOf);
    this.#total ??= units.length;
    const fraction = this.fraction(step);
    const due = Math.floor(this.#total * fraction) - this.#frozen;
    const chosen = units.sort((a, b) => a.score - b.score).slice(0, Math.max(0, due));
    this.#frozen += chosen.length;
    const frozen = chosen.flatMap(({ matrices }) => matrices);
    if (frozen.length > 0) this.#history.push({ step, fraction, frozen });
    return frozen;
  }

  /** Everything that was decided, for the run's record. `units` is the number of matrices, or of modules with both. */
  record(): Record<string, unknown> {
    return { start: this.span.start, end: this.span.end, units: this.#total, history: this.#history };
  }
}

/** The published code's share of elements below the threshold: eq. 5, but 1 only after step T - t_f instead of at it. */
export function publishedFraction(step: number, { start, end }: AfloraSpan): number {
  if (step <= start) return 0;
  return step > end ? 1 : 1 - (1 - (step - start) / (end - start)) ** 3;
}

/**
 * Tensors that the published code freezes: those whose mean score, or whose unit's, is below the floor(N fraction)-th
 * smallest of the N elements of all tensors together.
 */
export function belowThreshold(
  scores: ReadonlyMap<string, Float32Array>,
  fraction: number,
  unitOf: UnitOf = itself,
): string[] {
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
  const means = new Map([...scores].map(([name, values]) => [name, mean(values)]));
  return unitsOf(means, unitOf)
    .filter(({ score }) => score < threshold)
    .flatMap(({ matrices }) => matrices);
}
