import type { Batch } from "../../data/batch";
import type { Executor, Prepared, Run } from "../../run/executor";
import { gradientRuns } from "./gradient-runs";
import type { GradientParts, StepPlace } from "./gradient-runs";
import { checkFinite } from "../loop/skipped-steps";
import { LOSS } from "../plans/optimizer-plan";
import type { OptimizerPlans } from "./optimizer-plans";

export interface StepperParts extends GradientParts {
  readonly executor: Executor;
  readonly updates: OptimizerPlans;
}

/** What makes one optimizer step. */
export interface Step extends StepPlace {
  readonly batches: readonly Batch[];
  readonly learningRate: number;
}

/** The step that will probably come next, and whether its gradients may be computed before it is asked for. */
export interface ComingStep {
  readonly step: Step;
  readonly mayBegin: boolean;
}

interface Sequence {
  readonly step: Step;
  readonly runs: readonly Run[];
  readonly flops: number;
  readonly prepared?: Prepared | undefined;
}

/** Runs optimizer steps: gradients and update follow each other on the device, and the host reads both results at once. */
export class StepRunner {
  /** The step that is made ready while another one runs. */
  #ahead: Sequence | undefined;

  constructor(private readonly parts: StepperParts) {}

  /**
   * Takes a step. Where loss or gradient norm are not finite, the update itself has left everything as it was.
   * @param meanwhile called while it runs.
   * @throws NotFiniteError naming the step, DataError for a token id or a label that the model does not have.
   */
  async take(
    step: Step,
    meanwhile: () => ComingStep | undefined,
  ): Promise<{ readonly loss: number; readonly norm: number; readonly flops: number }> {
    const { executor, updates } = this.parts;
    if (updates.readsGradientsFirst) return this.#takeInTwo(step);
    const { runs, flops, prepared } = this.#isReady(step) ? this.#ahead! : this.#sequence(step);
    this.#ahead = undefined;
    const outputs = await executor.runAll(runs, { prepared, meanwhile: () => this.#lookAhead(meanwhile) });
    return { ...this.#finish(updates.finish(outputs, step.dropped), step), flops };
  }

  /** Prepares the next step. What fails here fails again when that step is run, and is reported then. */
  #lookAhead(next: () => ComingStep | undefined): void {
    try {
      const coming = next();
      if (!coming) return;
      const sequence = this.#sequence(coming.step);
      this.#ahead = { ...sequence, prepared: this.parts.executor.prepare(sequence.runs, coming.mayBegin) };
    } catch {
      this.#ahead = undefined;
    }
  }

  /** Judges loss and gradients before these are followed. */
  async #takeInTwo(step: Step): Promise<{ loss: number; norm: number; flops: number }> {
    const { executor, updates, state } = this.parts;
    const plan = updates.normOf(step.dropped)!;
    const { runs, flops } = gradientRuns(this.parts, step.batches, step, { lossSum: updates.lossSum, update: plan });
    const found = await executor.runAll([...runs, { plan, store: state, inputs: () => ({}) }]);
    const { loss } = this.#finish(updates.judge(found), step);
    await updates.collectStatistics(executor, "before_update", step.step);
    const outputs = await executor.runAll([updates.run(step.dropped, step.learningRate, loss)]);
    return { ...this.#finish(updates.finish(outputs, step.dropped), step), flops };
  }

  #finish(result: { loss: number; norm: number }, { step }: Step): { loss: number; norm: number } {
    checkFinite("loss", result.loss, step);
    checkFinite("gradient norm", result.norm, step);
    return result;
  }

  /** The gradients alone. @throws NotFiniteError for a loss that is not finite. */
  async gradients({ batches, ...place }: Omit<Step, "learningRate">): Promise<{ loss: number; flops: number }> {
    const { executor, updates } = this.parts;
    const { runs, flops } = gradientRuns(this.parts, batches, place, { lossSum: updates.lossSum });
    const outputs = await executor.runAll(runs);
    const loss = outputs.get(LOSS)?.[0] ?? NaN;
    checkFinite("loss", loss, place.step);
    return { loss, flops };
  }

  #sequence(step: Step): Sequence {
    const { updates } = this.parts;
    const update = updates.planOf(step.dropped);
    const { runs, flops } = gradientRuns(this.parts, step.batches, step, { lossSum: updates.lossSum, update });
    return { step, runs: [...runs, updates.run(step.dropped, step.learningRate)], flops };
  }

  /** Whether a step is the one that was made ready, with the plans that are still held. */
  #isReady(step: Step): boolean {
    const ahead = this.#ahead;
    if (!ahead?.runs.every(({ plan }) => this.parts.executor.holds(plan))) return false;
    const { batches, dropped, ...rest } = ahead.step;
    const isSame = rest.step === step.step && rest.learningRate === step.learningRate;
    return isSame && batches === step.batches && dropped.join() === step.dropped.join();
  }
}
