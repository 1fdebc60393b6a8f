import { expect, test } from "vitest";
import part from "../../kernels/lib/gelu.wgsl";
import { randomBits } from "../../src/ops/shared/dropout";
import { normalDistribution } from "../../src/ops/shared/normal";

const f32 = Math.fround;

/** The value of a named constant of the kernel. */
function constant(name: string): number {
  const value = new RegExp(`^const ${name}: f32 = (.*);`, "m").exec(part.code)?.[1];
  if (value === undefined) throw new Error(`lib/gelu.wgsl has no constant ${name}`);
  return f32(Number(value));
}

const fma = (a: number, b: number, c: number): number => f32(a * b + c);

/** `normal_distribution` of the kernel, rounded to f32 after every operation. */
function kernelDistribution(x: number): number {
  const k = f32(1 / fma(constant("TAIL_SLOPE"), Math.abs(x), 1));
  let tail = constant("TAIL_6");
  for (const power of [5, 4, 3, 2, 1, 0]) tail = fma(tail, k, constant(`TAIL_${power}`));
  tail = f32(tail * f32(k * f32(Math.exp(f32(f32(-0.5 * x) * x)))));
  return x < 0 ? tail : f32(1 - tail);
}

const grid = (count: number): number[] => Array.from({ length: count }, (_, i) => f32(-10 + (20 * i) / (count - 1)));

test("the float64 normal distribution has the tabulated values", () => {
  // Abramowitz and Stegun, table 26.1 and 26.2
  expect(normalDistribution(0)).toBe(0.5);
  expect(normalDistribution(1)).toBeCloseTo(0.841344746068543, 14);
  expect(normalDistribution(-2)).toBeCloseTo(0.02275013194817921, 15);
  expect(normalDistribution(-5) / 2.866515718791939e-7).toBeCloseTo(1, 9);
  expect(normalDistribution(-9) / 1.12858840595384e-19).toBeCloseTo(1, 12);
});

test("the coefficients of the kernel give the normal distribution to 2e-7 and GELU to 1.2e-7 or half an ulp", () => {
  for (const x of grid(20001)) {
    const exact = normalDistribution(x);
    expect(Math.abs(kernelDistribution(x) - exact)).toBeLessThan(2e-7);
    expect(Math.abs(f32(x * kernelDistribution(x)) - x * exact)).toBeLessThan(1.2e-7 * Math.max(1, x));
  }
});

test("random bits are uniform enough for a dropout mask", () => {
  const below = Array.from({ length: 100000 }, (_, i) => randomBits(i, 7, [1, 2])).filter((bits) => bits < 0x40000000);
  expect(Math.abs(below.length / 100000 - 0.25)).toBeLessThan(0.005);
  expect(new Set([0, 1, 2, 3].map((salt) => randomBits(5, salt, [1, 2]))).size).toBe(4);
});
