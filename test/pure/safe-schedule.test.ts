import { describe, expect, it } from "vitest";
import { cubicThreshold, quantile, SafeSchedule, safeSettings } from "../../src/freeze/safe-schedule";
import { cka } from "../../src/ops/cka";
import { finishCka } from "../../src/ops/cka";
import type { ReferenceTensor } from "../../src/op/declaration";

describe("SAFE's threshold (eq. 4)", () => {
  it.each([
    [4, 0],
    [5, 0],
    [6, 0.0542],
    [8, 0.1314],
    [10, 0.175],
    [12, 0.1946],
    [14, 0.1998],
    [15, 0.2],
    [30, 0.2],
  ])("at interval %i is %f", (t, expected) => {
    expect(cubicThreshold(t, 5, 15, 0.2)).toBeCloseTo(expected, 4);
  });

  it("takes quantiles as NumPy does", () => {
    expect(quantile([4, 1, 3, 2], 0.5)).toBe(2.5);
    expect(quantile([4, 1, 3, 2], 0)).toBe(1);
    expect(quantile([4, 1, 3, 2], 0.9)).toBeCloseTo(3.7);
  });
});

describe("linear CKA (eq. 2)", () => {
  const matrix = (values: number[]): ReferenceTensor => ({ shape: [4, 3], data: Float64Array.from(values) });
  const x = matrix([1, 2, 0, 0, 1, 3, 2, 0, 1, 1, 1, 1]);
  const y = matrix([1, 0, 2, 1, 1, 0, 0, 3, 1, 2, 1, 1]);
  const mask: ReferenceTensor = { shape: [4], data: Float64Array.of(1, 1, 1, 1) };
  const score = (a: ReferenceTensor, b: ReferenceTensor, center: boolean): number =>
    finishCka(cka.reference({ x: a, y: b, mask }, { center })["sums"]!.data);

  it("gives the values of a worked example", () => {
    expect(score(x, y, true)).toBeCloseTo(0.639282808627581, 12);
    expect(score(x, y, false)).toBeCloseTo(0.8025125990367244, 12);
    expect(score(x, x, true)).toBeCloseTo(1, 12);
  });
});

describe("SAFE's schedule", () => {
  const scores = (...values: number[]): Map<number, number> => new Map(values.map((value, layer) => [layer, value]));

  it("waits until every score has changed by less than 5 % twice in a row", () => {
    const schedule = new SafeSchedule(safeSettings({ tauT: 0.3, maxWarmup: 50, rampEnd: 8 }), 12);
    expect(schedule.next(scores(0.1, 0.2))).toEqual([]);
    expect(schedule.next(scores(0.2, 0.21))).toEqual([]); // layer 0 doubled
    expect(schedule.next(scores(0.205, 0.212))).toEqual([]); // changes of 2.5 % and 1 %: once
    expect(schedule.next(scores(0.206, 0.213))).toEqual([]); // twice: warm-up ends at 4, the threshold starts from 0
    expect(schedule.threshold).toBe(0);
    // tau_5 = 0.3 (1 - (3/4)^3) = 0.1734, tau_6 = 0.3 (1 - (1/2)^3) = 0.2625
    expect(schedule.next(scores(0.206, 0.27))).toEqual([]);
    expect(schedule.threshold).toBeCloseTo(0.1734, 4);
    expect(schedule.next(scores(0.206, 0.27))).toEqual([0]);
    expect(schedule.threshold).toBeCloseTo(0.2625, 4);
    expect(schedule.record()).toMatchObject({ warmupEnd: 4, rampEnd: 8, tauT: 0.3, intervals: 12 });
  });

  it("reaches the quantile that freezes the target fraction, of the warm-up's scores if configured", () => {
    const options = { targetFreezeFraction: 0.5, maxWarmup: 1, rampEnd: 2, scores: "warmup" as const };
    const schedule = new SafeSchedule(safeSettings(options), 4);
    expect(schedule.next(scores(0.4, 0.1, 0.3, 0.2))).toEqual([]);
    expect(schedule.next(scores(0.9, 0.9, 0.1, 0.1))).toEqual([1, 3]);
  });

  it("refuses options out of range", () => {
    expect(() => safeSettings({ tauT: 2 })).toThrow(/tauT 2/);
    expect(() => safeSettings({ targetFreezeFraction: -1 })).toThrow(/between 0 and 1/);
    expect(() => safeSettings({ every: 0 })).toThrow(/every is 0/);
  });
});
