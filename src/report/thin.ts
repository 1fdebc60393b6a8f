/** A value at a step. */
export interface Sample {
  readonly step: number;
  readonly value: number;
}

/** Points that a line of at most so many buckets needs: of each bucket the least and the greatest, in their order. */
export function extremes(points: readonly Sample[], buckets = 600): Sample[] {
  if (points.length <= 2 * buckets) return [...points];
  return Array.from({ length: buckets }, (_, i) => {
    const own = points.slice(
      Math.floor((i * points.length) / buckets),
      Math.floor(((i + 1) * points.length) / buckets),
    );
    const by = (isBetter: (a: number, b: number) => boolean): Sample =>
      own.reduce((best, point) => (isBetter(point.value, best.value) ? point : best));
    const [least, most] = [by((a, b) => a < b), by((a, b) => a > b)];
    if (least === most) return [least];
    return least.step < most.step ? [least, most] : [most, least];
  }).flat();
}

/** Those before which, or at whose end, something changes: enough for a line of steps. */
export function changes<T>(points: readonly T[], keyOf: (point: T) => string): T[] {
  return points.filter((point, i) => i === 0 || i === points.length - 1 || keyOf(point) !== keyOf(points[i - 1] as T));
}

/** Exponential moving average; early values are weighed as if it had always run. */
export function smoothed(points: readonly Sample[], keeps = 0.9): Sample[] {
  let [sum, weight] = [0, 0];
  return points.map(({ step, value }) => {
    [sum, weight] = [keeps * sum + (1 - keeps) * value, keeps * weight + (1 - keeps)];
    return { step, value: sum / weight };
  });
}

/** The p-quantile, without interpolation. */
export function quantileOf(values: readonly number[], p: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(p * sorted.length))] ?? 0;
}
