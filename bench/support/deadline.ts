/** Set to the time, in milliseconds since 1970, at which a bench stops beginning new measurements. */
export const DEADLINE_VARIABLE = "SAFETAPE_BENCH_DEADLINE";

const deadline = Number(process.env[DEADLINE_VARIABLE] ?? Infinity);

/** Measurements that were left out for want of time, in order. */
export const leftOut: string[] = [];

/** Whether there is time for one more measurement; if not, notes that it is left out. */
export function hasTimeFor(measurement: string): boolean {
  const hasTime = Date.now() < deadline;
  if (!hasTime) leftOut.push(measurement);
  return hasTime;
}
