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
  readonly #history: { step: number; fraction: number; frozen: readonly string[] }[] = [];

  constructor(readonly span: AfloraSpan) {}

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
