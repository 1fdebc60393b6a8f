import { expect, it } from "vitest";
import { holm, pairedDifference } from "../../bench/evidence/paired";

it("tests paired differences as Student did", () => {
  // Student (1908), Cushny and Peebles' hours of sleep: t = 4.0621, p = 0.002833, interval 0.70 to 2.46.
  const first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0, 2];
  const second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4];
  const { mean, margin, p, pairs } = pairedDifference(second, first);
  expect(pairs).toBe(10);
  expect(mean).toBeCloseTo(1.58, 12);
  expect([mean - margin, mean + margin].map((value) => value.toFixed(4))).toEqual(["0.7001", "2.4599"]);
  expect(p).toBeCloseTo(0.002833, 6);
});

it("says of equal runs that they do not differ, and of a constant difference that it is certain", () => {
  expect(pairedDifference([1, 2], [1, 2])).toMatchObject({ mean: 0, margin: 0, p: 1 });
  expect(pairedDifference([2, 3], [1, 2])).toMatchObject({ mean: 1, margin: 0, p: 0 });
  expect(() => pairedDifference([1], [2])).toThrow(RangeError);
});

it("corrects for several tests as Holm did", () => {
  // 0.01 * 4, 0.02 * 3, then at least as much: 0.03 * 2 = 0.06, 0.5.
  expect(holm([0.03, 0.01, 0.5, 0.02])).toEqual([0.06, 0.04, 0.5, 0.06]);
});
