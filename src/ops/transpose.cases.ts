import type { OpCase, TestsOf } from "../op/declaration";
import { at, filled, input } from "./shared/reference";
import { stridesOf } from "./shared/strided";
import { transposed } from "./transpose";
import type { TransposeAttributes, transpose } from "./transpose";

export const transposeTests: TestsOf<typeof transpose> = {
  reference(inputs, { axes }) {
    const x = input(inputs, "x");
    const shape = transposed(x.shape, axes);
    const [places, strides] = [stridesOf(shape), stridesOf(x.shape)];
    const from = (i: number): number =>
      axes.reduce((sum, axis, k) => sum + (Math.floor(i / places[k]!) % shape[k]!) * strides[axis]!, 0);
    return { y: filled(shape, (i) => at(x, from(i))) };
  },
  cases: [
    ...[
      { name: "odd sizes", axes: [2, 0, 1], shape: [2, 3, 5] },
      { name: "the last axis stays, vectors of four", axes: [1, 0, 2], shape: [2, 3, 8] },
      { name: "six axes", axes: [5, 3, 1, 4, 2, 0], shape: [2, 1, 3, 2, 1, 2] },
      { name: "one element", axes: [0], shape: [1] },
      { name: "that can be split over bindings", axes: [1, 0], shape: [41, 136] },
    ].map(({ name, axes, shape }): OpCase<TransposeAttributes> => ({
      name,
      attributes: { axes },
      inputs: { x: { shape } },
    })),
  ],
  malformed: [
    {
      name: "an axis twice",
      attributes: { axes: [0, 0] },
      inputs: { x: { shape: [2, 3], dtype: "f32" } },
      message: /\[0, 0\] does not permute the axes of x \[2, 3\]/,
    },
  ],
};
