import { columns } from "../base/shape";
import type { TestsOf } from "../op/declaration";
import { at, filled, input } from "./shared/reference";
import type { takeColumns } from "./take_columns";

export const takeColumnsTests: TestsOf<typeof takeColumns> = {
  reference(inputs, { offset, size, groups, stride }) {
    const x = input(inputs, "x");
    const width = groups * size;
    const column = (j: number): number => offset + Math.floor(j / size) * stride + (j % size);
    return {
      y: filled([...x.shape.slice(0, -1), width], (i) => {
        return at(x, Math.floor(i / width) * columns(x.shape) + column(i % width));
      }),
    };
  },
  cases: [
    {
      name: "every third group",
      attributes: { offset: 4, size: 4, groups: 2, stride: 12 },
      inputs: { x: { shape: [2, 3, 24] } },
    },
    {
      name: "odd columns in the middle",
      attributes: { offset: 3, size: 5, groups: 1, stride: 5 },
      inputs: { x: { shape: [7, 11] } },
    },
    { name: "one element", attributes: { offset: 0, size: 1, groups: 1, stride: 1 }, inputs: { x: { shape: [1, 1] } } },
    {
      name: "rows that can be split over bindings",
      attributes: { offset: 32, size: 32, groups: 1, stride: 32 },
      inputs: { x: { shape: [80, 64] } },
    },
    {
      name: "queries of Phi-3 mini, 128 tokens",
      attributes: { offset: 0, size: 3072, groups: 1, stride: 3072 },
      inputs: { x: { shape: [128, 9216] } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "a group beyond the last column",
      attributes: { offset: 2, size: 2, groups: 1, stride: 2 },
      inputs: { x: { shape: [2, 3], dtype: "f32" } },
      message: /1 groups of 2 columns, 2 apart from 2 on, are not in x \[2, 3\]/,
    },
  ],
};
