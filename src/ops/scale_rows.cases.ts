import { columns } from "../base/shape";
import type { TestsOf } from "../op/declaration";
import { at, filled, input } from "./shared/reference";
import type { scaleRows } from "./scale_rows";

export const scaleRowsTests: TestsOf<typeof scaleRows> = {
  reference(inputs) {
    const [a, b] = [input(inputs, "a"), input(inputs, "b")];
    const width = columns(a.shape);
    return { y: filled(a.shape, (index) => at(a, index) * at(b, Math.floor(index / width))) };
  },
  cases: [
    { name: "odd size", attributes: {}, inputs: { a: { shape: [7, 5] }, b: { shape: [7] } } },
    { name: "more rows than a workgroup", attributes: {}, inputs: { a: { shape: [70, 3] }, b: { shape: [70] } } },
    { name: "factors in a column", attributes: {}, inputs: { a: { shape: [2, 3, 5] }, b: { shape: [6, 1] } } },
    { name: "one element", attributes: {}, inputs: { a: { shape: [1, 1] }, b: { shape: [1] } } },
    {
      name: "rows that can be split over bindings",
      attributes: {},
      inputs: { a: { shape: [256, 16] }, b: { shape: [256] } },
    },
    {
      name: "B of VeRA in LLaMA-2 7B, rank 256",
      attributes: {},
      inputs: { a: { shape: [4096, 256] }, b: { shape: [4096] } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "one factor too few",
      attributes: {},
      inputs: { a: { shape: [2, 3], dtype: "f32" }, b: { shape: [3], dtype: "f32" } },
      message: /b \[3\] does not fit a \[2, 3\]/,
    },
  ],
};
