import type { TestsOf } from "../op/declaration";
import type { cayley } from "./cayley";
import { at, filled, input } from "./shared/reference";

type Matrix = readonly (readonly number[])[];

const matrix = (size: number, element: (i: number, j: number) => number): Matrix =>
  Array.from({ length: size }, (_, i) => Array.from({ length: size }, (__, j) => element(i, j)));
const times = (a: Matrix, b: Matrix): Matrix =>
  matrix(a.length, (i, j) => a.reduce((sum, _, k) => sum + a[i]![k]! * b[k]![j]!, 0));

/** (I + Q)^-1 by elimination with both sides. */
function inverseOf(q: Matrix): Matrix {
  const size = q.length;
  const rows = q.map((row, i) => [
    ...row.map((value, j) => value + Number(i === j)),
    ...row.map((_, j) => Number(i === j)),
  ]);
  for (let p = 0; p < size; p++) {
    const pivot = rows[p]![p]!;
    rows[p] = rows[p]!.map((value) => value / pivot);
    for (let i = 0; i < size; i++) {
      const factor = i === p ? 0 : rows[i]![p]!;
      rows[i] = rows[i]!.map((value, j) => value - factor * rows[p]![j]!);
    }
  }
  return rows.map((row) => row.slice(size));
}

export const cayleyTests: TestsOf<typeof cayley> = {
  reference(inputs, { size, terms }) {
    const vectors = input(inputs, "v");
    const [blocks = 0, width = 0] = vectors.shape;
    const differences = Array.from({ length: blocks }, (_, block) => {
      const element = (i: number, j: number): number =>
        at(vectors, block * width + (i * (2 * size - i - 1)) / 2 + j - i - 1);
      const q = matrix(size, (i, j) => (i < j ? element(i, j) : i > j ? -element(j, i) : 0));
      if (terms === 0) {
        const r = times(
          matrix(size, (i, j) => Number(i === j) - q[i]![j]!),
          inverseOf(q),
        );
        return matrix(size, (i, j) => r[i]![j]! - Number(i === j));
      }
      // As PEFT adds the powers up: all twice, but for the last.
      let [power, sum] = [q, matrix(size, (i, j) => 2 * q[i]![j]!)];
      const add = (factor: number): void => {
        power = times(power, q);
        sum = matrix(size, (i, j) => sum[i]![j]! + factor * power[i]![j]!);
      };
      if (terms > 2) {
        add(2);
        for (let k = 3; k < terms - 1; k++) add(2);
        add(1);
      }
      return sum;
    });
    return {
      y: filled([blocks, size, size], (index) => {
        const [block, row, column] = [Math.floor(index / size ** 2), Math.floor(index / size) % size, index % size];
        return differences[block]![row]![column]!;
      }),
    };
  },
  cases: [
    ...[0, 2, 3, 4, 5, 6].map((terms) => ({
      name: terms === 0 ? "the inverse" : `${terms} terms`,
      attributes: { size: 5, terms },
      inputs: { v: { shape: [3, 10], scale: 0.3 } },
    })),
    { name: "more than a tile", attributes: { size: 35, terms: 5 }, inputs: { v: { shape: [2, 595], scale: 0.05 } } },
    {
      name: "the inverse of more than a tile",
      attributes: { size: 35, terms: 0 },
      inputs: { v: { shape: [2, 595], scale: 0.3 } },
    },
    { name: "one angle", attributes: { size: 2, terms: 0 }, inputs: { v: { shape: [1, 1], values: [0.5] } } },
    {
      name: "blocks that can be split over bindings",
      attributes: { size: 8, terms: 5 },
      inputs: { v: { shape: [100, 28], scale: 0.2 } },
    },
    {
      name: "the inverse of blocks that can be split over bindings",
      attributes: { size: 8, terms: 0 },
      inputs: { v: { shape: [100, 28] } },
    },
    {
      name: "blocks of 32 in LLaMA-2 7B",
      attributes: { size: 32, terms: 5 },
      inputs: { v: { shape: [128, 496], scale: 0.05 } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "vectors of other blocks",
      attributes: { size: 4, terms: 5 },
      inputs: { v: { shape: [2, 5], dtype: "f32" } },
      message: /v \[2, 5\] does not fit blocks of 4 rows/,
    },
    {
      name: "one term",
      attributes: { size: 4, terms: 1 },
      inputs: { v: { shape: [2, 6], dtype: "f32" } },
      message: /1 terms make no rotation/,
    },
  ],
};
