import type { Batch } from "../data/batch";
import type { Progress } from "../freeze/policy";
import type { TrainerRun } from "./open-run";
import type { FreezeEvent, StepReport } from "./report";
import type { StepPrefix } from "./step-prefix";

/** A step that was applied, for its report. */
export interface TakenStep extends Pick<StepReport, "loss" | "flops" | "learningRate" | "gradientNorm"> {
  /** When it began. */
  readonly start: number;
  readonly batches: readonly Batch[];
  readonly prefix: StepPrefix;
  readonly freezes: FreezeEvent[];
}

/** What a step was like, and how the run stands after it. */
export function stepReport(
  { book, state, updates, options }: TrainerRun,
  { start, loss, gradientNorm, flops, learningRate, batches, prefix, freezes }: TakenStep,
  { step, totalSteps, stepsPerEpoch, horizon, skipped }: Progress & Pick<StepReport, "horizon" | "skipped">,
): StepReport {
  const seconds = (performance.now() - start) / 1000;
  const rows = batches.reduce((sum, batch) => sum + batch.rows, 0);
  return {
    ...{ step, totalSteps, epoch: step / stepsPerEpoch, loss, learningRate },
    ...{ gradientNorm, seconds, examplesPerSecond: rows / seconds, freezes, skipped },
    flops: flops + prefix.flops + updates.flops,
    bytes: options.model.engine.ledger.live,
    horizon,
    frozenTensors: state.frozen.length,
    rowsAtOnce: book.choice.rows,
    recomputed: book.choice.sections.size,
    prefix: prefix.report,
  };
}
