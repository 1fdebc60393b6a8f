import type { ActivePolicy } from "../../freeze/policy";
import { LOSS } from "../plans/optimizer-plan";
import type { WorldMember } from "../world";
import { checkFinite, checkValue } from "./check-finite";
import { gradientRuns } from "./gradient-runs";
import type { GradientParts } from "./gradient-runs";
import { LookAhead } from "./look-ahead";
import type { NextStep, StepRuns } from "./look-ahead";
import type { OptimizerPlans } from "./optimizer-plans";
import type { OuterOptimizer } from "./outer-optimizer";
import type { GradientStep, Step } from "./step";
import type { Executor } from "../../run/executor";

export interface StepRunnerParts extends GradientParts {
  readonly executor: Executor;
  readonly updates: OptimizerPlans;
  /** This device's place among others that train the run with it; undefined where it is alone. */
  readonly world?: WorldMember | undefined;
  /** Exchanges what local steps have changed; undefined where gradients are exchanged in every step. */
  readonly local?: OuterOptimizer | undefined;
  readonly policy?: ActivePolicy;
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
    const { executor, updates, world } = this.parts;
    if (world) return (await import("./other-steps")).runShared(this.parts, world, step, () => void predictNext());
    if (updates.readsGradientsFirst) return (await import("./other-steps")).runObserved(this.parts, step);
    const prepared = this.#lookAhead.take(step);
    const { runs, flops } = prepared ?? this.#runsOf(step);
    const outputs = await executor.runAll(runs, {
      prepared: prepared?.commands,
      meanwhile: () => this.#lookAhead.prepare(predictNext, (next) => this.#runsOf(next)),
    });
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
