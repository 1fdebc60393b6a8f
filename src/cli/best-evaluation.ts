import * as v from "valibot";
import type { Tensors } from "../adapter/adapter";
import { checkSchema } from "../io/json";
import type { Trainer } from "../train/trainer";
import { isBetter } from "./evaluation";
import type { Metrics } from "./evaluation";

/** JSON has no NaN: it becomes null. */
const METRIC = v.pipe(
  v.nullable(v.number()),
  v.transform((value) => value ?? NaN),
);
const METRICS = v.record(v.string(), METRIC);
const RECORD = v.strictObject({
  evaluations: v.array(v.strictObject({ step: v.number(), metrics: METRICS })),
  best: v.optional(METRICS),
});

/** Evaluates a run on the way and at its end, and keeps the trained tensors of the best evaluation. */
export class BestEvaluation {
  evaluations: { readonly step: number; readonly metrics: Metrics }[] = [];
  #best: { readonly metrics: Metrics; readonly tensors: Tensors } | undefined;

  constructor(
    private readonly trainer: Trainer,
    private readonly evaluate: (isLast: boolean) => Promise<Metrics>,
  ) {}

  /** State for a checkpoint: plain JSON, and the best tensors. */
  save(): { readonly record: unknown; readonly tensors: Tensors } {
    const { evaluations } = this;
    return { record: { evaluations, best: this.#best?.metrics }, tensors: this.#best?.tensors ?? new Map() };
  }

  /** Restores what `save` returned. @throws FileFormatError for another record. */
  restore(record: unknown, tensors: Tensors): void {
    const { evaluations, best } = checkSchema(RECORD, record, "a checkpoint's evaluations");
    this.evaluations = evaluations;
    this.#best = best && { metrics: best, tensors };
  }

  /** Evaluates after a step, and keeps the tensors if they are the best so far. */
  async evaluateStep(step: number): Promise<Metrics> {
    const metrics = await this.evaluate(false);
    this.evaluations.push({ step, metrics });
    if (!this.#best || isBetter(metrics, this.#best.metrics)) {
      this.#best = { metrics, tensors: await this.trainer.snapshot() };
    }
    return metrics;
  }

  /** Evaluates after the last step, goes back to the best step if that was an earlier one, and returns its metrics. */
  async finish(): Promise<Metrics> {
    if (!this.#best) return this.evaluate(true);
    if (isBetter(this.#best.metrics, await this.evaluate(false))) this.trainer.state.restore(this.#best.tensors);
    return this.evaluate(true);
  }
}
