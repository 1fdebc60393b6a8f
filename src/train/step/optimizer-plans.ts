import type { AdapterState } from "../../adapter/adapter";
import type { Statistics } from "../../ops/shared/statistics";
import { UpdateCounts } from "../../optimizer/update-counts";
import type { Executor, Run } from "../../run/executor";
import type { Plan } from "../../tape/plan";
import type { StructuralPruner } from "../freezing/structural-pruner";
import { LOSS, SQUARE_SUM } from "../plans/optimizer-plan";
import type { PlanBook } from "../plans/plan-book";
import { sidePlans } from "../plans/side-plans";
import type { SidePlanOptions, SidePlans, UpdatePlans } from "../plans/side-plans";
import { statisticsInputs } from "../plans/statistics-plan";
import { variantKey } from "../plans/trace";
import type { TrainableSpec } from "../tensors/specs";
import type { TrainableTensors } from "../tensors/trainable-tensors";

/** Runs what follows the backward pass of a step: statistics, masks, the global norm, the optimizer. */
export class OptimizerPlans {
  #plans: SidePlans;
  readonly #counts = new UpdateCounts();

  constructor(
    private readonly state: TrainableTensors,
    private readonly options: SidePlanOptions,
    /** Reads the importance of heads and neurons. */
    private readonly pruner: StructuralPruner | undefined,
    private readonly adapterState: AdapterState | undefined,
  ) {
    this.#plans = this.#planFor(state.live);
  }

  /** Every plan that the executor must hold in addition to those of the steps. */
  get plans(): readonly Plan[] {
    return this.#plans.all;
  }

  /** Every plan that the executor would have to hold with only these tensors live. */
  plansWith(live: ReadonlyMap<string, TrainableSpec>): readonly Plan[] {
    return this.#planFor(live).all;
  }

  #planFor(live: ReadonlyMap<string, TrainableSpec>): SidePlans {
    return sidePlans(this.options, live, this.state.masked);
  }

  /** Adds up the losses of a step's runs, where there may be several. */
  get lossSum(): Plan | undefined {
    return this.#plans.lossSum;
  }

  /** Updates that each group of tensors has had, for checkpoints. Plain JSON. */
  save(): ReturnType<UpdateCounts["save"]> {
    return this.#counts.save();
  }

  /** Continues from what `save` returned. */
  restore(counts: ReturnType<OptimizerPlans["save"]>): void {
    this.#counts.restore(counts);
  }

  /** Learning rate outside the head, before the schedule. */
  get learningRate(): number {
    return this.options.optimizer.settings.learningRate;
  }

  /** FLOPs of the update of a step that leaves no layers out. */
  get flops(): number {
    return this.planOf([]).flops.forward;
  }

  /** Plans again for the tensors that are live and masked now, and their sizes. */
  rebuild(): void {
    this.#plans = this.#planFor(this.state.live);
  }

  /** Whether something reads the gradients before the update. It must not see gradients of a loss that is not finite. */
  get readsGradientsFirst(): boolean {
    return this.normOf([]) !== undefined;
  }

  /** Whether something other than the update reads a step's gradients, or changes what the next gradients depend on. */
  get hasObservers(): boolean {
    const { statistics, importance } = this.#plans;
    return statistics.length > 0 || importance !== undefined || this.adapterState !== undefined;
  }

  /** Updates the statistics that are collected at this moment. @param step number of the step, from 0. */
  async collectStatistics(executor: Executor, when: Statistics["when"], step: number): Promise<void> {
    const { statistics, importance } = this.#plans;
    for (const { statistics: collected, plan } of statistics) {
      if (collected.when === when) await executor.run(plan, this.state, statisticsInputs(collected, step));
    }
    if (importance && when === "before_update") {
      this.pruner?.addStep(await executor.run(importance, this.state, {}));
    }
  }

  /** The update plan of a step without these layers. The loss is an input of it. */
  planOf(dropped: readonly number[]): Plan {
    return this.#updateOf(dropped).update;
  }

  /** Names of the tensors that the update of a step without these layers changes, in the run's order. */
  tensorsOf(dropped: readonly number[]): readonly string[] {
    return this.#updateOf(dropped).tensors;
  }

  /** The plan that computes loss and gradient norm ahead of the update; undefined where nothing reads gradients first. */
  normOf(dropped: readonly number[]): Plan | undefined {
    return this.#updateOf(dropped).norm;
  }

  /**
   * The run of one update. It changes nothing where the loss or the gradient norm is not finite.
   * @param scheduleFactor of every group's learning rate.
   */
  run(dropped: readonly number[], scheduleFactor: number, loss?: number): Run {
    const { update, groups } = this.#updateOf(dropped);
    const inputs = () => ({
      ...(loss !== undefined && { [LOSS]: Float32Array.of(loss) }),
      ...this.#counts.inputs(this.options.optimizer, groups, scheduleFactor),
    });
    return { plan: update, store: this.state, inputs, isUpdate: true };
  }

  /** Loss and global gradient norm of an update that was run; counts the update where both are finite. */
  finish(
    outputs: ReadonlyMap<string, Float32Array>,
    dropped: readonly number[],
  ): { loss: number; gradientNorm: number } {
    const { loss, gradientNorm } = this.readResult(outputs);
    if (Number.isFinite(loss) && Number.isFinite(gradientNorm)) {
      this.#counts.count(this.#updateOf(dropped).groups);
    }
    return { loss, gradientNorm };
  }

  /** Loss and global gradient norm, before clipping, from the outputs of an update or norm plan. */
  readResult(outputs: ReadonlyMap<string, Float32Array>): { loss: number; gradientNorm: number } {
    return { loss: outputs.get(LOSS)?.[0] ?? NaN, gradientNorm: Math.sqrt(outputs.get(SQUARE_SUM)?.[0] ?? NaN) };
  }

  #updateOf(dropped: readonly number[]): UpdatePlans {
    const plans = this.#plans.updates.get(variantKey(dropped));
    if (!plans) throw new Error(`The update without the layers ${dropped.join(", ")} is not planned.`);
    return plans;
  }
}

interface HeldParts {
  readonly book: PlanBook;
  readonly updates: OptimizerPlans;
}

/** The plans that the executor holds between steps: those of the steps, and those in addition to them. */
export function heldPlans({ book, updates }: HeldParts): Plan[] {
  return [...book.plans, ...updates.plans];
}

/** What holds the plans of steps. */
export interface HoldParts extends HeldParts {
  readonly executor: Executor;
  readonly state: TrainableTensors;
}

/**
 * Makes the executor hold the plans of steps. Updates take the tensors of a layer to lie side by side, so what was frozen
 * between them leaves first. The plans give way meanwhile, since what moves needs memory of its own for a moment.
 * @throws OutOfMemoryError where memory runs out; another call continues there.
 */
export async function holdPlans(parts: HoldParts): Promise<void> {
  const { executor, state } = parts;
  if (state.hasGaps) {
    await executor.hold([]);
    await state.closeGaps();
  }
  await executor.hold(heldPlans(parts));
}
