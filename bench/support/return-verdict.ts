/** A freeze, and what went back by it: as the ledger counts, and as seen from outside. */
export interface Return {
  readonly "frozen layers": number;
  readonly "ledger bytes returned": number;
  readonly "measured bytes returned": number;
}

/** Bytes seen from outside after so many steps. */
export interface Reading {
  readonly step: number;
  readonly "measured bytes": number;
}

export const BOUNDS = { return: 0.05, drift: 0.01 } as const;

/** Whether the process fell by what the ledger returned, all freezes together, and stayed flat afterwards. */
export function verdictOf(returns: readonly Return[], readings: readonly Reading[]) {
  const total = (what: "ledger bytes returned" | "measured bytes returned"): number =>
    returns.reduce((sum, row) => sum + row[what], 0);
  const ratio = total("measured bytes returned") / total("ledger bytes returned");
  const [first, ...later] = readings.map((reading) => reading["measured bytes"]);
  const drift = Math.max(...later.map((bytes) => Math.abs(bytes / (first ?? NaN) - 1)));
  const broken: string[] = [];
  // Written so that NaN, from a run that returned or measured nothing, breaks a bound.
  if (!(Math.abs(ratio - 1) <= BOUNDS.return)) broken.push(`returned ${ratio.toFixed(3)} of what the ledger says`);
  if (later.length === 0 || !(drift <= BOUNDS.drift)) broken.push(`drifted by ${(100 * drift).toFixed(2)} %`);
  return { ratio, drift, broken };
}
