/** The bytes that one freeze returned: by the ledger, and by a meter. */
export interface Return {
  readonly "frozen layers": number;
  readonly "ledger bytes returned": number;
  readonly "measured bytes returned": number;
}

/** A meter's reading after `step` steps. */
export interface Reading {
  readonly step: number;
  readonly "measured bytes": number;
}

/** Largest relative differences: between measured and ledger bytes returned, and between later readings and the first. */
export const BOUNDS = { return: 0.05, drift: 0.01 } as const;

/** Checks that the measured memory fell by the bytes that all freezes returned together, and then stayed constant. */
export function verdictOf(returns: readonly Return[], readings: readonly Reading[]) {
  const total = (key: "ledger bytes returned" | "measured bytes returned"): number =>
    returns.reduce((sum, row) => sum + row[key], 0);
  const ratio = total("measured bytes returned") / total("ledger bytes returned");
  const [first, ...later] = readings.map((reading) => reading["measured bytes"]);
  const drift = Math.max(...later.map((bytes) => Math.abs(bytes / (first ?? NaN) - 1)));
  const broken: string[] = [];
  // NaN, from a run that returned or measured nothing, must count as broken: hence the negations.
  if (!(Math.abs(ratio - 1) <= BOUNDS.return)) broken.push(`returned ${ratio.toFixed(3)} of what the ledger says`);
  if (later.length === 0 || !(drift <= BOUNDS.drift)) broken.push(`drifted by ${(100 * drift).toFixed(2)} %`);
  return { ratio, drift, broken };
}
