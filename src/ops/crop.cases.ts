import { columns } from "../base/shape";
import type { TestsOf } from "../op/declaration";
import { at, filled, input } from "./shared/reference";
import type { crop } from "./crop";

export const cropTests: TestsOf<typeof crop> = {
  reference(inputs, { rows: height, columns: width }) {
    const x = input(inputs, "x");
    const xWidth = columns(x.shape);
    return { y: filled([height, width], (i) => at(x, Math.floor(i / width) * xWidth + (i % width))) };
  },
  cases: [
    { name: "both axes", attributes: { rows: 3, columns: 2 }, inputs: { x: { shape: [5, 7] } } },
    { name: "rows only", attributes: { rows: 4, columns: 6 }, inputs: { x: { shape: [9, 6] } } },
    { name: "everything", attributes: { rows: 2, columns: 3 }, inputs: { x: { shape: [2, 3] } } },
    { name: "one element", attributes: { rows: 1, columns: 1 }, inputs: { x: { shape: [40, 30] } } },
    {
      name: "A of VeRA for BERT-base queries, rank 256",
      attributes: { rows: 256, columns: 768 },
      inputs: { x: { shape: [256, 3072] } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "more rows than x has",
      attributes: { rows: 3, columns: 3 },
      inputs: { x: { shape: [2, 3], dtype: "f32" } },
      message: /3 x 3 cannot be cut from x \[2, 3\]/,
    },
  ],
};
