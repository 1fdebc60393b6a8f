import * as v from "valibot";
import type { Tensors } from "../adapter/adapter";
import { checkSchema } from "../io/json";
import { EarlyStopping } from "../train/early-stopping";
import type { Trainer } from "../train/trainer";
import { valueOf } from "./evaluation";
import type { Metrics } from "./evaluation";

/** JSON has no NaN: it becomes null. */
const METRIC = v.pipe(
  v.nullable(v.number()),
  v.transform((value) => value ?? NaN),
);
/** Metrics in JSON. */
export const METRICS = v.record(v.string(), METRIC);
const RECORD = v.object({ evaluations: v.array(v.strictObject({ step: v.number(), metrics: METRICS })) });

/** Evaluates a run on the way and at its end, and keeps the trained tensors of the best evaluation. */
export class BestEvaluation {
  evaluations: { readonly step: number; readonly metrics: Metrics }[] = [];
  readonly #stopping: EarlyStopping;
  /** What the best evaluation has the least of. */
  readonly #valueOf: (metrics: Metrics) => number;

  /**
   * @param patience evaluations in a row without a lower loss after which the run stops. Default: it never does, and the
   * best evaluation is that with the best first metric.
   */
  constructor(
    private readonly trainer: Trainer,
    private readonly evaluate: (isLast: boolean) => Promise<Metrics>,
    patience?: number,
  ) {
    this.#stopping = new EarlyStopping(trainer, { patience: patience ?? Infinity });
    this.#valueOf = patience === undefined ? valueOf : ({ loss = NaN }) => loss;
  }

  /** The step of the best evaluation; undefined without evaluations. */
  get bestStep(): number | undefined {
    return this.#stopping.best?.step;
  }

  /** Whether the run should stop now. */
  isDone(): boolean {
    return this.#stopping.isDone;
  }

  /** State for a checkpoint: plain JSON, and the best tensors. */
  save(): { readonly record: unknown; readonly tensors: Tensors } {
    return { record: { evaluations: this.evaluations }, tensors: this.#stopping.bestTensors };
  }

  /** Restores what `save` returned. @throws FileFormatError for another record. */
  restore(record: unknown, tensors: Tensors): void {
    const { evaluations } = checkSchema(RECORD, record, "a checkpoint's evaluations");
    this.evaluations = evaluations;
    const judged = evaluations.map(({ step, metrics }) => ({ step, value: this.#valueOf(metrics) }));
    this.#stopping.resume(judged, tensors);
  }

  /** Evaluates after a step, and keeps the tensors if they are the best so far. */
  async evaluateStep(step: number): Promise<Metrics> {
    const metrics = await this.evaluate(false);
    this.evaluations.push({ step, metrics });
    await this.#stopping.add(this.#valueOf(metrics));
    return metrics;
  }

  /** Evaluates after the last step, goes back to the best step if that was an earlier one, and returns its metrics. */
  async finish(): Promise<Metrics> {
    const { step } = this.trainer.progress;
    const last = this.evaluations.at(-1);
    if (!last) return this.evaluate(true);
    if (last.step !== step) await this.evaluateStep(step);
    await this.#stopping.restoreBest();
    return this.evaluate(true);
  }
}
