import { NotFiniteError } from "../../base/errors";
import type { TrainerOptions } from "../options";
import type { SkippedStep } from "./reports";

/** More skipped steps in a row than this mean that the batches are not the cause. */
const MAX_IN_A_ROW = 10;

/** Steps that were not applied because their loss or gradients were not finite. */
export class SkippedSteps {
  readonly #isSkipping: boolean;
  #unreported: SkippedStep[] = [];
  #inARow = 0;

  constructor({ onNotFinite = "stop" }: Pick<TrainerOptions, "onNotFinite">) {
    this.#isSkipping = onNotFinite === "skip";
  }

  /** Records a step that failed. @throws the error where the run has to stop. */
  add(error: unknown): void {
    if (!this.#isSkipping || !(error instanceof NotFiniteError)) throw error;
    const { step, what, value } = error;
    if (++this.#inARow <= MAX_IN_A_ROW) {
      this.#unreported.push({ step, what, value: String(value) });
      return;
    }
    this.#inARow = 0;
    throw new NotFiniteError(
      `${MAX_IN_A_ROW} steps in a row were skipped; in the next one, step ${step}, the ${what} is ${value} again.`,
      "The batches are not the cause: continue with a lower learning rate, or clipping (maxGradNorm).",
      step,
      { what, value, cause: error },
    );
  }

  /** The steps skipped before the step that was just applied. */
  take(): readonly SkippedStep[] {
    this.#inARow = 0;
    return this.#unreported.splice(0);
  }
}
