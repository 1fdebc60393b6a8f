import { NotFiniteError } from "../../base/errors";
import type { GradientStep } from "./step";

/** @throws NotFiniteError naming the step. */
export function checkFinite<T extends { readonly loss: number; readonly gradientNorm: number }>(
  result: T,
  step: GradientStep,
): T {
  checkValue("loss", result.loss, step);
  checkValue("gradient norm", result.gradientNorm, step);
  return result;
}

/** @throws NotFiniteError naming the step. */
export function checkValue(what: string, value: number, { index }: GradientStep): void {
  if (Number.isFinite(value)) return;
  throw new NotFiniteError(
    `The ${what} of step ${index} is ${value}; the adapter keeps the values of the last good step.`,
    'Save it, then continue with a lower learning rate, clipping (maxGradNorm), or onNotFinite: "skip".',
    index,
    { what, value },
  );
}
