import { elements } from "../base/shape";
import type { OpCase, TestsOf } from "../op/declaration";
import { broadcastReference } from "./shared/broadcast.cases";
import { input, matrixProduct } from "./shared/reference";
import { sizesOf } from "./matmul";
import type { MatmulAttributes, matmul } from "./matmul";

export const matmulTests: TestsOf<typeof matmul> = {
  reference(inputs, attributes) {
    const [a, b] = [input(inputs, "a"), input(inputs, "b")];
    const { batch, m, n, k } = sizesOf(attributes, a.shape, b.shape);
    const [left, right] = [a, b].map((each) => broadcastReference(each, [...batch, ...each.shape.slice(-2)]).data);
    const data = Array.from({ length: elements(batch) }, (_, i) => {
      const one = (all: Float64Array, size: number) => ({ shape: [size], data: all.slice(i * size, (i + 1) * size) });
      const transposed = { a: attributes.transposeA, b: attributes.transposeB };
      return [...matrixProduct(one(left!, m * k), one(right!, k * n), m, n, k, transposed)];
    });
    return { y: { shape: [...batch, m, n], data: Float64Array.from(data.flat()) } };
  },
  cases: [
    ...[
      { name: "two matrices of odd sizes", a: [5, 7], b: [7, 3] },
      { name: "both transposed, a batch of three", a: [3, 7, 5], b: [3, 3, 7], transposeA: true, transposeB: true },
      { name: "b for all matrices of a", a: [2, 3, 5, 7], b: [7, 3] },
      { name: "a for all matrices of b, transposed", a: [7, 5], b: [3, 7, 3], transposeA: true },
      { name: "both repeated, many and small", a: [3, 1, 5, 4], b: [2, 6, 4], transposeB: true },
      { name: "many and small, transposed", a: [6, 4, 5], b: [6, 4, 3], transposeA: true },
      { name: "one element", a: [1, 1], b: [1, 1] },
      { name: "that can be split over bindings", a: [2, 64, 50], b: [2, 50, 70] },
      { name: "many that can be split over bindings", a: [70, 16, 8], b: [70, 8, 4] },
    ].map(({ name, a, b, transposeA = false, transposeB = false }): OpCase<MatmulAttributes> => ({
      name,
      attributes: { transposeA, transposeB },
      inputs: { a: { shape: a }, b: { shape: b } },
    })),
    {
      name: "scores of BERT-base, 4 texts of 128 tokens",
      attributes: { transposeA: false, transposeB: true },
      inputs: { a: { shape: [4, 12, 128, 64] }, b: { shape: [4, 12, 128, 64] } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "inner sizes that differ",
      attributes: { transposeA: false, transposeB: true },
      inputs: { a: { shape: [2, 3], dtype: "f32" }, b: { shape: [3, 4], dtype: "f32" } },
      message: /a \[2, 3\] and b \[3, 4\], with b transposed, cannot be multiplied/,
    },
    {
      name: "batches that differ",
      attributes: { transposeA: false, transposeB: false },
      inputs: { a: { shape: [2, 3, 4], dtype: "f32" }, b: { shape: [3, 4, 5], dtype: "f32" } },
      message: /matmul: the batch of a \[2\] and the batch of b \[3\] do not broadcast/,
    },
  ],
};
