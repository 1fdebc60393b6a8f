import type { OpCase, TestsOf } from "../op/declaration";
import { reductionReference } from "./shared/axes.cases";
import { input } from "./shared/reference";
import type { sum, SumAttributes } from "./sum";

export const sumTests: TestsOf<typeof sum> = {
  reference(inputs, attributes) {
    const y = reductionReference(input(inputs, "x"), attributes, (values) => {
      const total = values.reduce((a, b) => a + b, 0);
      return attributes.mean ? total / values.length : total;
    });
    return { y };
  },
  cases: [
    ...[
      { name: "over the middle axis", axes: [1], shape: [3, 5, 2] },
      { name: "over the first and last axis, mean", axes: [0, 2], shape: [3, 4, 5], mean: true },
      { name: "over the first axis, vectors of four", axes: [0], shape: [3, 8], keepDims: true },
      { name: "over many, mean", axes: [1], shape: [3, 70], keepDims: true, mean: true },
      { name: "over no axis", axes: [], shape: [2, 3] },
      { name: "of one element", axes: [0], shape: [1] },
      { name: "that can be split over bindings", axes: [0, 2], shape: [3, 5, 400] },
      { name: "over the first axis that can be split over bindings", axes: [0], shape: [30, 200] },
    ].map(({ name, axes, shape, keepDims = false, mean = false }): OpCase<SumAttributes> => ({
      name,
      attributes: { axes, keepDims, mean },
      inputs: { x: { shape } },
    })),
  ],
  malformed: [
    {
      name: "an axis that is not there",
      attributes: { axes: [2], keepDims: false, mean: false },
      inputs: { x: { shape: [2, 3], dtype: "f32" } },
      message: /sum: axes \[2\] are not axes of x \[2, 3\]/,
    },
    {
      name: "an axis twice",
      attributes: { axes: [1, 1], keepDims: false, mean: true },
      inputs: { x: { shape: [2, 3], dtype: "f32" } },
      message: /sum: axes \[1, 1\] are not axes of x \[2, 3\]/,
    },
  ],
};
