import type { Tensors } from "../adapter/adapter";
import { ConfigError } from "../base/errors";
import type { Trainer } from "./trainer";

/** An evaluation in the course of a run. */
export interface JudgedStep {
  /** Optimizer steps before it. */
  readonly step: number;
  /** The loss on other data than the run trains on, or another number of which less is better. */
  readonly value: number;
}

export interface EarlyStoppingOptions {
  /** Evaluations in a row without a new best after which the run should stop. Default 2. */
  readonly patience?: number;
}

/**
 * Early stopping: keeps the trained tensors of the best evaluation in host memory, says when the run should stop, and goes
 * back to that best state. Where the policy prunes the model, the last evaluation is the best: earlier ones were of a larger
 * model.
 *
 *     const stopping = new EarlyStopping(trainer, { patience: 2 });
 *     for await (const { step } of trainer.steps()) {
 *       if (step % trainer.progress.stepsPerEpoch !== 0) continue;
 *       const { loss } = await trainer.evaluate(dev());
 *       if (await stopping.add(loss)) break;
 *     }
 *     await stopping.restoreBest();
 */
export class EarlyStopping {
  readonly #patience: number;
  readonly #judged: JudgedStep[] = [];
  #best: (JudgedStep & { readonly tensors: Tensors }) | undefined;

  /** @throws ConfigError for a patience below 1. */
  constructor(
    private readonly trainer: Trainer,
    { patience = 2 }: EarlyStoppingOptions = {},
  ) {
    if (!(patience >= 1)) throw new ConfigError(`patience is ${patience}.`, "Give a whole number from 1.");
    this.#patience = patience;
  }

  /** All evaluations so far, in their order. */
  get judged(): readonly JudgedStep[] {
    return this.#judged;
  }

  /** The first evaluation that none was better than. */
  get best(): JudgedStep | undefined {
    return this.#best && { step: this.#best.step, value: this.#best.value };
  }

  /** Whether `patience` evaluations have passed since the best one. */
  get isDone(): boolean {
    const { step: bestStep = Infinity } = this.#best ?? {};
    return this.#judged.filter(({ step }) => step > bestStep).length >= this.#patience;
  }

  /**
   * Adds the evaluation of the trainer's present state, and copies its tensors where it is the best so far.
   * @returns whether the run should stop.
   */
  async add(value: number): Promise<boolean> {
    const { step } = this.trainer.progress;
    this.#judged.push({ step, value });
    if (!this.#best || this.#isBetter({ step, value }, this.#best))
      this.#best = { step, value, tensors: await this.trainer.snapshot() };
    return this.isDone;
  }

  /** Gives the trainer the tensors of the best evaluation; the optimizer's moments stay. Without evaluations it does nothing. */
  async restoreBest(): Promise<void> {
    if (!this.#best || this.#best.step === this.trainer.progress.step) return;
    await this.trainer.restore(this.#best.tensors);
  }

  /** The tensors of the best evaluation, for a program's own checkpoint. */
  get bestTensors(): Tensors {
    return this.#best?.tensors ?? new Map();
  }

  /** Continues from evaluations and tensors of an interrupted run. */
  resume(judged: readonly JudgedStep[], tensors: Tensors): void {
    this.#judged.splice(0, Infinity, ...judged);
    const best = judged.reduce<JudgedStep | undefined>((a, b) => (a && !this.#isBetter(b, a) ? a : b), undefined);
    this.#best = best && { ...best, tensors };
  }

  /** Whether a later evaluation is better than an earlier one. No value is worse than NaN. */
  #isBetter(later: JudgedStep, earlier: JudgedStep): boolean {
    if (this.trainer.options.policy?.kind === "structure_pruning") return true;
    return later.value < earlier.value || (Number.isNaN(earlier.value) && !Number.isNaN(later.value));
  }
}
