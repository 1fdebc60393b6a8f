/** A value at a step. */
export interface Sample {
  readonly step: number;
  readonly value: number;
}

/** Points for a line without visible loss: the minimum and the maximum of each of `buckets` parts, in their order. */
export function extremes(points: readonly Sample[], buckets = 600): Sample[] {
  if (points.length <= 2 * buckets) return [...points];
  return Array.from({ length: buckets }, (_, i) => {
    const bucket = points.slice(
      Math.floor((i * points.length) / buckets),
      Math.floor(((i + 1) * points.length) / buckets),
    );
    const minimum = bucket.reduce((least, point) => (point.value < least.value ? point : least));
    const maximum = bucket.reduce((most, point) => (point.value > most.value ? point : most));
    if (minimum === maximum) return [minimum];
    return minimum.step < maximum.step ? [minimum, maximum] : [maximum, minimum];
  }).flat();
}

/** Points for a step line: the first, the last, and each that differs from the one before. */
export function changes<T>(points: readonly T[], keyOf: (point: T) => string): T[] {
  return points.filter((point, i) => i === 0 || i === points.length - 1 || keyOf(point) !== keyOf(points[i - 1]!));
}

/** Exponential moving average with bias correction, as in Adam. `decay` is the weight of the past. */
export function smoothed(points: readonly Sample[], decay = 0.9): Sample[] {
  let [sum, weight] = [0, 0];
  return points.map(({ step, value }) => {
    [sum, weight] = [decay * sum + (1 - decay) * value, decay * weight + (1 - decay)];
    return { step, value: sum / weight };
  });
}

/**
 * The median of the points around each one: `half` before and after it, fewer at the ends. Unlike an average it keeps sudden
 * changes, such as that of a freeze, where they are, and single outliers do not move it.
 */
export function runningMedian(points: readonly Sample[], half = 5): Sample[] {
  return points.map(({ step }, i) => {
    const around = points.slice(Math.max(0, i - half), i + half + 1);
    const sorted = around.map(({ value }) => value).sort((a, b) => a - b);
    const middle = (sorted.length - 1) / 2;
    return { step, value: (sorted[Math.floor(middle)]! + sorted[Math.ceil(middle)]!) / 2 };
  });
}

/** The p-quantile of values, without interpolation; 0 without values. */
export function quantileOf(values: readonly number[], p: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(p * sorted.length))] ?? 0;
}
