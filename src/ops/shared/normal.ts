const SERIES_BELOW = 3;
const FRACTION_LEVELS = 80;

/** The cumulative distribution function of the standard normal, (1 + erf(x / sqrt 2)) / 2, to float64's precision. */
export function normalDistribution(x: number): number {
  const t = Math.abs(x) / Math.SQRT2;
  const tail = t < SERIES_BELOW ? (1 - erfBySeries(t)) / 2 : erfcByFraction(t) / 2;
  return x < 0 ? tail : 1 - tail;
}

/** erf(t) = 2 / sqrt(pi) exp(-t^2) sum_n 2^n t^(2n+1) / (1 3 5 ... (2n+1)). All terms are positive: nothing cancels. */
function erfBySeries(t: number): number {
  let term = t;
  let sum = t;
  for (let n = 1; term > sum * 1e-18; n++) {
    term *= (2 * t * t) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-t * t) * sum;
}

/** erfc(t) = exp(-t^2) / sqrt(pi) / (t + (1/2) / (t + (2/2) / (t + (3/2) / (t + ...)))). */
function erfcByFraction(t: number): number {
  let denominator = t;
  for (let level = FRACTION_LEVELS; level >= 1; level--) denominator = t + level / 2 / denominator;
  return Math.exp(-t * t) / Math.sqrt(Math.PI) / denominator;
}
