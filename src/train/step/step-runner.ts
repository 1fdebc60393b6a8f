import { NotFiniteError } from "../../base/errors";
import { LOSS } from "../plans/optimizer-plan";
import { gradientRuns } from "./gradient-runs";
import type { GradientParts } from "./gradient-runs";
import { LookAhead } from "./look-ahead";
import type { NextStep, StepRuns } from "./look-ahead";
import type { OptimizerPlans } from "./optimizer-plans";
import type { GradientStep, Step } from "./step";
import type { Executor } from "../../run/executor";

export interface StepRunnerParts extends GradientParts {
  readonly executor: Executor;
  readonly updates: OptimizerPlans;
}

export interface StepResult {
  readonly loss: number;
  /** Global norm of all gradients, before clipping. */
  readonly gradientNorm: number;
  readonly flops: number;
}

/** Runs optimizer steps: gradients and update follow each other on the device, and the host reads the results of both together. */
export class StepRunner {
  readonly #lookAhead: LookAhead;

  constructor(private readonly parts: StepRunnerParts) {
    this.#lookAhead = new LookAhead(parts.executor);
  }

  /**
   * Computes the gradients of a step and applies the update.
   * @param predictNext the step that will probably follow, called while this one runs.
   * @throws NotFiniteError where the loss or the gradient norm is not finite; the update then changed nothing. DataError for
   * a token id or a label that the model does not have.
   */
  async run(step: Step, predictNext: () => NextStep | undefined): Promise<StepResult> {
    const { executor, updates } = this.parts;
    if (updates.readsGradientsFirst) return this.#runObserved(step);
    const prepared = this.#lookAhead.take(step);
    const { runs, flops } = prepared ?? this.#runsOf(step);
    const outputs = await executor.runAll(runs, {
      prepared: prepared?.commands,
      meanwhile: () => this.#lookAhead.prepare(predictNext, (next) => this.#runsOf(next)),
    });
    return { ...checkFinite(updates.finish(outputs, step.droppedLayers), step), flops };
  }

  /** Computes the gradients, lets their observers read them where they are finite, then applies the update. */
  async #runObserved(step: Step): Promise<StepResult> {
    const { executor, updates, state } = this.parts;
    const norm = updates.normOf(step.droppedLayers)!;
    const { runs, flops } = gradientRuns(this.parts, step, { lossSum: updates.lossSum, update: norm });
    const gradients = await executor.runAll([...runs, { plan: norm, store: state, inputs: () => ({}) }]);
    const { loss } = checkFinite(updates.readResult(gradients), step);
    await updates.collectStatistics(executor, "before_update", step.index);
    const outputs = await executor.runAll([updates.run(step.droppedLayers, step.scheduleFactor, loss)]);
    return { ...checkFinite(updates.finish(outputs, step.droppedLayers), step), flops };
  }

  /** Computes gradients without an update. @throws NotFiniteError where the loss is not finite. */
  async computeGradients(step: GradientStep): Promise<void> {
    const { executor, updates } = this.parts;
    const { runs } = gradientRuns(this.parts, step, { lossSum: updates.lossSum });
    const outputs = await executor.runAll(runs);
    checkValue("loss", outputs.get(LOSS)?.[0] ?? NaN, step);
  }

  #runsOf(step: Step): StepRuns {
    const { updates } = this.parts;
    const update = updates.planOf(step.droppedLayers);
    const { runs, flops } = gradientRuns(this.parts, step, { lossSum: updates.lossSum, update });
    return { runs: [...runs, updates.run(step.droppedLayers, step.scheduleFactor)], flops };
  }
}

/** @throws NotFiniteError naming the step. */
function checkFinite<T extends { readonly loss: number; readonly gradientNorm: number }>(result: T, step: Step): T {
  checkValue("loss", result.loss, step);
  checkValue("gradient norm", result.gradientNorm, step);
  return result;
}

function checkValue(what: string, value: number, { index }: GradientStep): void {
  if (Number.isFinite(value)) return;
  throw new NotFiniteError(
    `The ${what} of step ${index} is ${value}; the adapter keeps the values of the last good step.`,
    'Save it, then continue with a lower learning rate, clipping (maxGradNorm), or onNotFinite: "skip".',
    index,
    { what, value },
  );
}
