import { NotFiniteError } from "../../base/errors";
import type { TrainerOptions } from "../options";
import type { SkippedStep } from "./reports";

/** So many skipped steps in a row say that it is not the batch. */
const MOST_IN_A_ROW = 10;

type Choice = Pick<TrainerOptions, "onNotFinite">;

/** @throws NotFiniteError naming the step, from 0. */
export function checkFinite(what: string, value: number, step: number): void {
  if (Number.isFinite(value)) return;
  throw new NotFiniteError(
    `The ${what} of step ${step} is ${value}; the adapter keeps the values of the last good step.`,
    'Save it, then go on with a lower learning rate, clipping (maxGradNorm), or onNotFinite: "skip".',
    step,
    { what, value },
  );
}

/** Steps of a run that were passed over, since something in them was not finite. */
export class SkippedSteps {
  #untold: SkippedStep[] = [];
  #inARow = 0;
  readonly #skips: boolean;

  constructor({ onNotFinite = "stop" }: Choice) {
    this.#skips = onNotFinite === "skip";
  }

  /** Notes a step that failed. @throws the error where the run is to stop. */
  note(error: unknown): void {
    if (!this.#skips || !(error instanceof NotFiniteError)) throw error;
    if (++this.#inARow > MOST_IN_A_ROW) throw this.#tooMany(error);
    const { step, what, value } = error;
    this.#untold.push({ step, what, value: String(value) });
  }

  #tooMany(error: NotFiniteError): NotFiniteError {
    const { step, what, value } = error;
    this.#inARow = 0;
    return new NotFiniteError(
      `${MOST_IN_A_ROW} steps in a row were skipped; in the next one, step ${step}, the ${what} is ${value} again.`,
      "It is not the batches: go on with a lower learning rate, or clipping (maxGradNorm).",
      step,
      { what, value, cause: error },
    );
  }

  /** A step was applied: what was passed over before it, told once. */
  tell(): readonly SkippedStep[] {
    this.#inARow = 0;
    return this.#untold.splice(0);
  }
}
