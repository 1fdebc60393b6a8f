import type { Batch } from "../../data/batch";
import type { Progress } from "../../freeze/policy";
import type { RunResources } from "./resources";
import type { StepReport } from "./reports";
import type { StepPrefix } from "../step/prefix/step-prefix";

/** A step that was applied, for its report. */
export interface TakenStep extends Pick<StepReport, "loss" | "flops" | "learningRate" | "gradientNorm"> {
  /** When it began. */
  readonly start: number;
  readonly batches: readonly Batch[];
  readonly prefix: StepPrefix;
}

type After = Progress & Pick<StepReport, "horizon" | "planned" | "scores" | "freezes" | "skipped">;

/** What a step was like, and how the run stands after it. */
export function stepReport(
  { book, state, options }: RunResources,
  { start, batches, prefix, ...taken }: TakenStep,
  { step, totalSteps, stepsPerEpoch, ...after }: After,
): StepReport {
  const seconds = (performance.now() - start) / 1000;
  const rows = batches.reduce((sum, batch) => sum + batch.rows, 0);
  return {
    step,
    totalSteps,
    epoch: step / stepsPerEpoch,
    seconds,
    examplesPerSecond: rows / seconds,
    ...taken,
    ...after,
    bytes: options.model.engine.ledger.live,
    prefix: prefix.report,
    frozenTensors: state.frozen.length,
    rowsAtOnce: book.choice.rows,
    recomputed: book.choice.sections.size,
  };
}
