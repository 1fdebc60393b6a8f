import { SingularValueDecomposition } from "ml-matrix";
import { describe, expect, test } from "vitest";
import { Random } from "../../src/base/random";
import { largestSingular, leadingQr, randomisedSingular } from "../../src/base/singular";
import type { Matrix, SingularTriplets } from "../../src/base/singular";

const random = new Random(5);
const normal = (rows: number, columns: number): Matrix => ({
  rows,
  columns,
  data: Float32Array.from({ length: rows * columns }, () => random.normal()),
});
/** Sum of value * left right^T, row-major. */
function product({ values, left, right }: SingularTriplets): number[] {
  const columns = right[0]!.length;
  return Array.from({ length: left[0]!.length * columns }, (_, at) =>
    values.reduce((sum, value, k) => sum + value * left[k]![Math.floor(at / columns)]! * right[k]![at % columns]!, 0),
  );
}
const rowsOf = ({ rows, columns, data }: Matrix): number[][] =>
  Array.from({ length: rows }, (_, i) => [...data.subarray(i * columns, (i + 1) * columns)]);
/** The same by the library, which computes all triplets. */
function expected(matrix: Matrix, count: number): SingularTriplets {
  const svd = new SingularValueDecomposition(rowsOf(matrix), { autoTranspose: true });
  const all = Array.from({ length: count }, (_, k) => k);
  return {
    values: svd.diagonal.slice(0, count),
    left: all.map((k) => Float64Array.from(svd.leftSingularVectors.getColumn(k))),
    right: all.map((k) => Float64Array.from(svd.rightSingularVectors.getColumn(k))),
  };
}
const worst = (actual: readonly number[], wanted: readonly number[]): number =>
  Math.max(...actual.map((value, i) => Math.abs(value - wanted[i]!)));

describe("the largest singular values", () => {
  test.each([
    ["a square", normal(90, 90), 8],
    ["a wide one", normal(40, 130), 5],
    ["a tall one", normal(131, 41), 41],
    ["one row", normal(1, 7), 1],
    ["a block that is smaller than the space grows at a time", normal(3, 2), 2],
  ])("of %s matrix", async (_, matrix, count) => {
    const actual = await largestSingular(matrix, count);
    const wanted = expected(matrix, count);
    expect(worst(actual.values, wanted.values)).toBeLessThan(1e-10);
    expect(worst(product(actual), product(wanted))).toBeLessThan(1e-8);
  });

  test("of which several are the same", async () => {
    const diagonal = [3, 3, 3, 2, 2, ...Array.from({ length: 95 }, (_, i) => 1 - i / 200)];
    const data = new Float32Array(100 * 100);
    diagonal.forEach((value, i) => (data[i * 101] = value));
    const { values } = await largestSingular({ rows: 100, columns: 100, data }, 5);
    expect(worst(values, [3, 3, 3, 2, 2])).toBeLessThan(1e-12);
  });

  test("of a matrix of lower rank are 0, and so are their vectors", async () => {
    const [left, right] = [normal(9, 2), normal(2, 8)];
    const data = Float64Array.from({ length: 72 }, (_, at) => {
      const [i, j] = [Math.floor(at / 8), at % 8];
      return left.data[2 * i]! * right.data[j]! + left.data[2 * i + 1]! * right.data[8 + j]!;
    });
    const found = await largestSingular({ rows: 9, columns: 8, data }, 4);
    expect(worst(product(found), [...data])).toBeLessThan(1e-12);
    const none = await largestSingular({ rows: 3, columns: 3, data: new Float32Array(9) }, 2);
    expect(product(none)).toEqual(Array(9).fill(0));
  });

  test("are approached by random vectors, from below", async () => {
    const matrix = normal(120, 80);
    const { values } = expected(matrix, 6);
    const errors = await Promise.all(
      [0, 4, 60].map(async (rounds) => {
        const found = await randomisedSingular(matrix, 6, rounds, new Random(1));
        expect(found.values.every((value, k) => value <= values[k]! + 1e-9)).toBe(true);
        return values[0]! - found.values[0]!;
      }),
    );
    expect(errors[0]).toBeGreaterThan(errors[1]!);
    expect(errors[1]).toBeGreaterThan(errors[2]!);
    expect(errors[2]).toBeLessThan(1e-3);
  });
});

test("the first columns of Q and rows of R are those of LAPACK, signs included", () => {
  const { q, r } = leadingQr({ rows: 3, columns: 2, data: Float32Array.of(1, 2, 3, 4, 5, 6) }, 2);
  expect(worst([...q[0]!], [-0.1690308509, -0.5070925528, -0.8451542547])).toBeLessThan(1e-9);
  expect(worst([...q[1]!], [0.8970852271, 0.2760262237, -0.3450327797])).toBeLessThan(1e-9);
  expect(worst([...r[0]!], [-5.9160797831, -7.4373574414])).toBeLessThan(1e-9);
  expect(worst([...r[1]!], [0, 0.8280786712])).toBeLessThan(1e-9);
  const wide = normal(5, 9);
  const factors = leadingQr(wide, 5);
  expect(worst(product({ values: [1, 1, 1, 1, 1], left: factors.q, right: factors.r }), [...wide.data])).toBeLessThan(
    1e-12,
  );
});
