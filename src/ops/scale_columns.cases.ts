import type { TestsOf } from "../op/declaration";
import { at, filled, input } from "./shared/reference";
import type { scaleColumns } from "./scale_columns";

export const scaleColumnsTests: TestsOf<typeof scaleColumns> = {
  reference(inputs) {
    const [a, b] = [input(inputs, "a"), input(inputs, "b")];
    return { y: filled(a.shape, (index) => at(a, index) * at(b, index % b.data.length)) };
  },
  cases: [
    { name: "odd size", attributes: {}, inputs: { a: { shape: [2, 3, 5] }, b: { shape: [5] } } },
    { name: "more columns than a workgroup", attributes: {}, inputs: { a: { shape: [3, 70] }, b: { shape: [70] } } },
    { name: "several chunks of rows", attributes: {}, inputs: { a: { shape: [3, 23, 5] }, b: { shape: [5] } } },
    { name: "factors in a column", attributes: {}, inputs: { a: { shape: [6, 5] }, b: { shape: [5, 1] } } },
    { name: "one element", attributes: {}, inputs: { a: { shape: [1] }, b: { shape: [1] } } },
    {
      name: "rows that can be split over bindings",
      attributes: {},
      inputs: { a: { shape: [150, 16] }, b: { shape: [16] } },
    },
    {
      name: "keys of T5-XL, 512 tokens",
      attributes: {},
      inputs: { a: { shape: [512, 2048] }, b: { shape: [2048] } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "one factor too few",
      attributes: {},
      inputs: { a: { shape: [2, 3], dtype: "f32" }, b: { shape: [2], dtype: "f32" } },
      message: /b \[2\] does not fit a \[2, 3\]/,
    },
  ],
};
