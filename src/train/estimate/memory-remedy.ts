import { OutOfMemoryError } from "../../base/errors";
import type { PlanBook } from "../plans/plan-book";
import type { TrainerOptions } from "../options";
import type { StepChoice } from "../plans/step-choice";

export interface RemedyParts {
  readonly options: Pick<TrainerOptions, "model">;
  readonly book: PlanBook;
  /** Bytes that the run's plans need with a choice, for the tensors that are live now. */
  readonly needs: (choice: StepChoice) => number;
}

/** Does some work of a run. Where the driver has no memory for it, the error says what the run needs with other options. */
export async function withMemoryRemedy<T>(parts: RemedyParts, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof OutOfMemoryError) || error.plannedBytes !== undefined) throw error;
    // Loaded when it is needed: few runs end so.
    throw (await import("./memory-alternatives")).withAlternatives(error, parts);
  }
}
