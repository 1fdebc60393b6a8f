import { ConfigError } from "../../base/errors";
import type { TrainerOptions } from "../options";

export interface RunLength {
  /** Optimizer steps of the run. */
  readonly totalSteps: number;
  readonly stepsPerEpoch: number;
  /** Batches per optimizer step. */
  readonly accumulate: number;
}

/** The length of a run in optimizer steps. @throws ConfigError where a count is not a positive integer. */
export function runLength(options: Pick<TrainerOptions, "data" | "accumulate" | "epochs" | "steps">): RunLength {
  const { accumulate = 1, epochs = 3 } = options;
  const stepsPerEpoch = Math.ceil(options.data.perEpoch / accumulate);
  const totalSteps = options.steps ?? Math.round(epochs * stepsPerEpoch);
  for (const [name, value] of Object.entries({ accumulate, steps: totalSteps })) {
    if (!Number.isInteger(value) || value < 1) {
      throw new ConfigError(`The trainer has ${name} ${value}.`, "Give a whole number from 1.");
    }
  }
  return { totalSteps, stepsPerEpoch, accumulate };
}
