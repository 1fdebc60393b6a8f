import type { Executor, Prepared, Run } from "../../run/executor";
import type { Step } from "./step";

/** The launches of a step, and their FLOPs. */
export interface StepRuns {
  readonly runs: readonly Run[];
  readonly flops: number;
}

/** A step that may be prepared while the step before it runs. */
export interface NextStep {
  readonly step: Step;
  /** Whether its gradients may be computed before it is requested. */
  readonly mayBegin: boolean;
}

/**
 * Prepares the next step while the current one runs on the device, so that the device need not wait for the host: encodes
 * its commands and, where allowed, submits its gradients. A wrong guess costs time, never a result.
 */
export class LookAhead {
  #prepared: (StepRuns & { readonly step: Step; readonly commands: Prepared | undefined }) | undefined;

  constructor(private readonly executor: Executor) {}

  /** Prepares a step. An error is dropped here: it recurs when the step itself runs, and is reported then. */
  prepare(predict: () => NextStep | undefined, runsOf: (step: Step) => StepRuns): void {
    this.#prepared = undefined;
    try {
      const next = predict();
      if (!next) return;
      const { runs, flops } = runsOf(next.step);
      const commands = this.executor.prepare(runs, next.mayBegin);
      this.#prepared = { step: next.step, runs, flops, commands };
    } catch {
      this.#prepared = undefined;
    }
  }

  /** The prepared runs of a step, once; undefined where another step was prepared or plans have changed since. */
  take(step: Step): (StepRuns & { readonly commands: Prepared | undefined }) | undefined {
    const prepared = this.#prepared;
    this.#prepared = undefined;
    if (!prepared || !isSameStep(prepared.step, step)) return undefined;
    return prepared.runs.every(({ plan }) => this.executor.holds(plan)) ? prepared : undefined;
  }
}

function isSameStep(a: Step, b: Step): boolean {
  const hasSameBatches = a.batches === b.batches && a.droppedLayers.join() === b.droppedLayers.join();
  return hasSameBatches && a.index === b.index && a.scheduleFactor === b.scheduleFactor;
}
