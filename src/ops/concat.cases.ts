import { elements } from "../base/shape";
import type { OpCase, TestsOf } from "../op/declaration";
import { input } from "./shared/reference";
import { CONCAT_SLOTS } from "./concat";
import type { ConcatAttributes, concat } from "./concat";

export const concatTests: TestsOf<typeof concat> = {
  reference(inputs, { axis }) {
    const tensors = CONCAT_SLOTS.filter((slot) => inputs[slot]).map((slot) => input(inputs, slot));
    const { shape } = input(inputs, "x0");
    const outer = elements(shape.slice(0, axis));
    const data = Array.from({ length: outer }, (_, row) =>
      tensors.flatMap((tensor) => {
        const length = tensor.data.length / outer;
        return [...tensor.data.subarray(row * length, (row + 1) * length)];
      }),
    );
    const size = tensors.reduce((sum, tensor) => sum + tensor.shape[axis]!, 0);
    return { y: { shape: shape.map((each, k) => (k === axis ? size : each)), data: Float64Array.from(data.flat()) } };
  },
  cases: [
    ...[
      {
        name: "along the middle axis",
        axis: 1,
        shapes: [
          [2, 3, 2],
          [2, 1, 2],
          [2, 4, 2],
        ],
      },
      {
        name: "along the last axis, vectors of four",
        axis: 1,
        shapes: [
          [3, 4],
          [3, 8],
        ],
      },
      { name: "one element", axis: 0, shapes: [[1]] },
      {
        name: "that can be split over bindings",
        axis: 0,
        shapes: [
          [41, 136],
          [3, 136],
        ],
      },
      {
        name: "rows that can be split over bindings",
        axis: 1,
        shapes: [
          [50, 101],
          [50, 3],
        ],
      },
    ].map(({ name, axis, shapes }): OpCase<ConcatAttributes> => ({
      name,
      attributes: { axis },
      inputs: Object.fromEntries(shapes.map((shape, i) => [`x${i}`, { shape }])),
    })),
  ],
  malformed: [
    {
      name: "other sizes that differ",
      attributes: { axis: 1 },
      inputs: { x0: { shape: [2, 3], dtype: "f32" }, x1: { shape: [3, 3], dtype: "f32" } },
      message: /concat: \[2, 3\], \[3, 3\] cannot follow each other along axis 1/,
    },
    {
      name: "an axis that is not there",
      attributes: { axis: 2 },
      inputs: { x0: { shape: [2, 3], dtype: "f32" } },
      message: /cannot follow each other along axis 2/,
    },
  ],
};
