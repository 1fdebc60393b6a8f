import jstat from "jstat";

const { studentt } = jstat.jStat;

/** A difference of two methods, each run with the same seeds. */
export interface PairedDifference {
  readonly pairs: number;
  readonly mean: number;
  /** Half the width of the 95 % confidence interval of the mean. */
  readonly margin: number;
  /** Two-sided, of Student's test for pairs; 1 where all differences are 0, 0 where they are all the same otherwise. */
  readonly p: number;
}

/**
 * Student's t-test of the differences a[i] - b[i], where i is a seed.
 * @throws RangeError for fewer than two pairs, or for lists of different lengths.
 */
export function pairedDifference(a: readonly number[], b: readonly number[]): PairedDifference {
  if (a.length !== b.length || a.length < 2)
    throw new RangeError(`A test of ${a.length} and ${b.length} runs is not one of pairs.`);
  const pairs = a.length;
  const differences = a.map((value, i) => value - b[i]!);
  const mean = differences.reduce((sum, value) => sum + value, 0) / pairs;
  const variance = differences.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (pairs - 1);
  const error = Math.sqrt(variance / pairs);
  const margin = studentt.inv(0.975, pairs - 1) * error;
  if (error === 0) return { pairs, mean, margin, p: mean === 0 ? 1 : 0 };
  return { pairs, mean, margin, p: 2 * studentt.cdf(-Math.abs(mean / error), pairs - 1) };
}

/** Holm's correction (1979): p values of several tests, so that one below 0.05 is found among true nulls in at most 5 % of cases. */
export function holm(values: readonly number[]): number[] {
  const order = [...values.keys()].sort((a, b) => values[a]! - values[b]!);
  const corrected = new Array<number>(values.length);
  let largest = 0;
  for (const [rank, index] of order.entries()) {
    largest = Math.max(largest, Math.min(1, (values.length - rank) * values[index]!));
    corrected[index] = largest;
  }
  return corrected;
}
