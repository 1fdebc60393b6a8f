import type { OpCase, TestsOf } from "../op/declaration";
import { reductionReference } from "./shared/axes.cases";
import type { AxesAttributes } from "./shared/axes";
import { input } from "./shared/reference";
import type { max } from "./max";

export const maxTests: TestsOf<typeof max> = {
  reference(inputs, attributes) {
    const x = input(inputs, "x");
    const largest = (values: readonly number[]): number => values.reduce((a, b) => Math.max(a, b), -Infinity);
    return {
      y: reductionReference(x, attributes, largest),
      index: reductionReference(x, attributes, (values) => values.indexOf(largest(values))),
    };
  },
  cases: [
    ...[
      { name: "over the middle axis", axes: [1], shape: [3, 5, 2] },
      { name: "over the first and last axis", axes: [0, 2], shape: [3, 4, 5], keepDims: true },
      { name: "over many", axes: [1], shape: [3, 70] },
      { name: "of one element", axes: [0], shape: [1] },
      { name: "that can be split over bindings", axes: [0, 2], shape: [3, 5, 400] },
      { name: "over the first axis that can be split over bindings", axes: [0], shape: [30, 200] },
    ].map(({ name, axes, shape, keepDims = false }): OpCase<AxesAttributes> => ({
      name,
      attributes: { axes, keepDims },
      inputs: { x: { shape } },
    })),
  ],
  malformed: [
    {
      name: "an axis that is not there",
      attributes: { axes: [-1], keepDims: false },
      inputs: { x: { shape: [2, 3], dtype: "f32" } },
      message: /max: axes \[-1\] are not axes of x \[2, 3\]/,
    },
  ],
};
