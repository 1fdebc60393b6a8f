import { describe, expect, test } from "vitest";
import { DataError } from "../../src/base/errors";
import { accuracy, f1, matthews, pearson, perplexity, spearman } from "../../src/data/metrics";

/** Lists with these counts: [true positive, false positive, false negative, true negative]. */
function lists(tp: number, fp: number, fn: number, tn: number): [number[], number[]] {
  const repeat = (count: number, value: number): number[] => new Array<number>(count).fill(value);
  const predictions = [...repeat(tp + fp, 1), ...repeat(fn + tn, 0)];
  return [predictions, [...repeat(tp, 1), ...repeat(fp, 0), ...repeat(fn, 1), ...repeat(tn, 0)]];
}

describe("metrics", () => {
  test("accuracy is the share of equal labels", () => {
    expect(accuracy([0, 1, 2, 2], [0, 1, 2, 0])).toBe(0.75);
  });

  test("Matthews correlation gives the value of Wikipedia's worked example (TP 6, FN 2, FP 1, TN 3)", () => {
    expect(matthews(...lists(6, 1, 2, 3))).toBeCloseTo(0.478, 3);
  });

  test("Matthews correlation gives the value in scikit-learn's documentation, -0.33", () => {
    expect(matthews([1, 0, 1, 1], [1, 1, 1, 0])).toBeCloseTo(-1 / 3, 12);
  });

  test("Matthews correlation is 1, -1, or 0 where a class is missing", () => {
    expect(matthews([1, 0, 1], [1, 0, 1])).toBe(1);
    expect(matthews([0, 1, 0], [1, 0, 1])).toBe(-1);
    expect(matthews([1, 1, 1], [1, 0, 1])).toBe(0);
  });

  test("F1 counts class 1 as positive", () => {
    expect(f1(...lists(6, 1, 2, 3))).toBeCloseTo(12 / 15, 12);
    expect(f1([0, 0], [0, 0])).toBe(0);
  });

  test("Pearson gives 0.816 for Anscombe's first set, and Spearman -29/165 for IQ against hours of television", () => {
    const x = [10, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5];
    const y = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68];
    expect(pearson(x, y)).toBeCloseTo(0.81642, 5);
    const iq = [106, 100, 86, 101, 99, 103, 97, 113, 112, 110];
    const hours = [7, 27, 2, 50, 28, 29, 20, 12, 6, 17];
    expect(spearman(iq, hours)).toBeCloseTo(-29 / 165, 12);
  });

  test("Spearman gives equal values the mean of their ranks (scipy: 0.8207826816681233)", () => {
    expect(spearman([1, 2, 3, 4, 5], [5, 6, 7, 8, 7])).toBeCloseTo(0.8207826816681233, 12);
  });

  test("correlations with a constant list are 0, and large offsets do not matter", () => {
    expect(pearson([1, 1, 1], [1, 2, 3])).toBe(0);
    expect(pearson([1e9 + 1, 1e9 + 2, 1e9 + 3], [1, 2, 3])).toBeCloseTo(1, 9);
  });

  test("the perplexity of a uniform guess among n is n", () => {
    expect(perplexity(20 * Math.log(50257), 20)).toBeCloseTo(50257, 6);
  });

  test.each([
    ["empty lists", () => accuracy([], [])],
    ["lists of different lengths", () => f1([1], [1, 0])],
    ["NaN", () => pearson([NaN, 1], [1, 2])],
    ["no token", () => perplexity(1, 0)],
  ])("refuses %s", (_, action) => {
    expect(action).toThrow(DataError);
  });
});
