import { describe, expect, test } from "vitest";
import { Random } from "../../src/base/random";
import { parseJson } from "../support/json";

describe("Random", () => {
  test("gives the reference numbers of xoshiro128** from the state 1, 2, 3, 4", () => {
    const random = Random.restore({ words: [1, 2, 3, 4] });
    expect(Array.from({ length: 10 }, () => random.bits())).toEqual([
      11520, 0, 5927040, 70819200, 2031721883, 1637235492, 1287239034, 3734860849, 3729100597, 4258142804,
    ]);
  });

  test("the same seed gives the same numbers, another seed or stream gives others", () => {
    const first = (seed: number, stream?: number): string => {
      const random = new Random(seed, stream);
      return Array.from({ length: 4 }, () => random.bits()).join();
    };
    expect(first(7)).toBe(first(7));
    const seeds = [0, 1, -1, 7, 2 ** 32, 2 ** 32 + 1, -(2 ** 40), Number.MAX_SAFE_INTEGER].map((seed) => first(seed));
    const streams = [1, 2, 3, 2 ** 32].map((stream) => first(7, stream));
    expect(new Set([...seeds, ...streams]).size, "two seeds or streams give the same numbers").toBe(12);
  });

  test("continues from a saved state, even between two normal numbers of a pair", () => {
    const random = new Random(3);
    random.normal();
    const state = parseJson<ReturnType<Random["save"]>>(JSON.stringify(random.save()));
    const expected = [random.normal(), random.normal(), random.uniform(), random.below(10)];
    const restored = Random.restore(state);
    expect([restored.normal(), restored.normal(), restored.uniform(), restored.below(10)]).toEqual(expected);
  });

  test("uniform numbers fill [0, 1) evenly", () => {
    const random = new Random(1);
    const counts = new Array<number>(10).fill(0);
    for (let i = 0; i < 100_000; i++) counts[Math.floor(random.uniform() * 10)]!++;
    // Chi-squared with 9 degrees of freedom exceeds 27.9 for one seed in a thousand.
    const chi = counts.reduce((sum, count) => sum + (count - 10_000) ** 2 / 10_000, 0);
    expect(chi, `tenths were hit ${counts.join(", ")} times`).toBeLessThan(27.9);
  });

  test("normal numbers have mean 0, variance 1, kurtosis 3", () => {
    const random = new Random(2);
    const values = Array.from({ length: 200_000 }, () => random.normal());
    const moment = (power: number): number => values.reduce((sum, x) => sum + x ** power, 0) / values.length;
    expect(moment(1)).toBeCloseTo(0, 2);
    expect(moment(2)).toBeCloseTo(1, 1);
    expect(Math.abs(moment(3))).toBeLessThan(0.03);
    expect(Math.abs(moment(4) - 3)).toBeLessThan(0.1);
  });

  test("integers below n are uniform, and below n", () => {
    const random = new Random(5);
    const counts = [0, 0, 0];
    for (let i = 0; i < 30_000; i++) counts[random.below(3)]!++;
    expect(counts.length).toBe(3);
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(400);
    expect(random.below(1)).toBe(0);
    expect(random.below(2 ** 32)).toBeLessThan(2 ** 32);
  });

  test("a shuffle is a permutation, and all orders are equally frequent", () => {
    const random = new Random(9);
    const counts = new Map<string, number>();
    for (let i = 0; i < 12_000; i++) {
      const order = random.shuffle([0, 1, 2]).join("");
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    expect([...counts.keys()].sort()).toEqual(["012", "021", "102", "120", "201", "210"]);
    for (const count of counts.values()) expect(Math.abs(count - 2000)).toBeLessThan(200);
    const typed = Uint32Array.of(1, 2, 3);
    expect(random.shuffle(typed)).toBe(typed);
  });

  test.each([
    ["a fractional seed", () => new Random(0.5)],
    ["a seed that is not finite", () => new Random(NaN)],
    ["below 0", () => new Random(0).below(0)],
    ["below 2^33", () => new Random(0).below(2 ** 33)],
    ["a state of zeros", () => Random.restore({ words: [0, 0, 0, 0] })],
    ["a state of other numbers", () => Random.restore({ words: [-1, 2.5, 3, 4] })],
    ["a spare that is not finite", () => Random.restore({ words: [1, 2, 3, 4], spare: NaN })],
  ])("refuses %s", (_, action) => {
    expect(action).toThrow(RangeError);
  });
});
