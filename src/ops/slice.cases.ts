import type { OpCase, TestsOf } from "../op/declaration";
import { at, filled, input } from "./shared/reference";
import { stridesOf } from "./shared/strided";
import type { slice, SliceAttributes } from "./slice";

export const sliceTests: TestsOf<typeof slice> = {
  reference(inputs, { starts, sizes, steps }) {
    const x = input(inputs, "x");
    const [places, strides] = [stridesOf(sizes), stridesOf(x.shape)];
    const from = (i: number): number =>
      sizes.reduce((sum, size, axis) => {
        const index = starts[axis]! + (Math.floor(i / places[axis]!) % size) * steps[axis]!;
        return sum + index * strides[axis]!;
      }, 0);
    return { y: filled(sizes, (i) => at(x, from(i))) };
  },
  cases: [
    ...[
      { name: "steps, one of them backwards", starts: [1, 4], sizes: [2, 3], steps: [1, -2], shape: [3, 5] },
      { name: "rows, vectors of four", starts: [1, 4], sizes: [2, 8], steps: [2, 1], shape: [4, 16] },
      { name: "one element", starts: [0], sizes: [1], steps: [1], shape: [1] },
      { name: "that can be split over bindings", starts: [1, 3], sizes: [40, 130], steps: [1, 1], shape: [41, 136] },
    ].map(({ name, shape, ...attributes }): OpCase<SliceAttributes> => ({
      name,
      attributes,
      inputs: { x: { shape } },
    })),
  ],
  malformed: [
    {
      name: "an element beyond the end",
      attributes: { starts: [0, 1], sizes: [2, 2], steps: [1, 2] },
      inputs: { x: { shape: [2, 3], dtype: "f32" } },
      message: /\[2, 2\] elements from \[0, 1\] on in steps of \[1, 2\] are not in x \[2, 3\]/,
    },
    {
      name: "a missing axis",
      attributes: { starts: [0], sizes: [2], steps: [1] },
      inputs: { x: { shape: [2, 3], dtype: "f32" } },
      message: /are not in x \[2, 3\]/,
    },
  ],
};
