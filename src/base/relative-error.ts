/** The largest absolute difference, divided by the largest expected magnitude. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let largestError = 0;
  let largest = 1e-30;
  for (let i = 0; i < expected.length; i++) {
    const [value, reference] = [actual[i]!, expected[i]!];
    const isSame = value === reference || (Number.isNaN(value) && Number.isNaN(reference));
    const error = isSame ? 0 : Math.abs(value - reference);
    // Comparisons with NaN are false: negated like this, they do not let it pass as a small error.
    if (!(error <= largestError)) largestError = error;
    if (Number.isFinite(reference)) largest = Math.max(largest, Math.abs(reference));
  }
  return largestError / largest;
}

/** Largest relative error of a result whose kernel multiplies and sums in f16: its numbers have 11 bits. */
export const HALF_TOLERANCE = 5e-3;
