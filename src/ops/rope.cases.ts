import { columns } from "../base/shape";
import type { TestsOf } from "../op/declaration";
import { at, filled, input } from "./shared/reference";
import type { rope } from "./rope";

export const ropeTests: TestsOf<typeof rope> = {
  reference(inputs, { heads }) {
    const [x, table] = [input(inputs, "x"), input(inputs, "table")];
    const width = columns(x.shape);
    const head = width / heads;
    const [length = 0, , half = 0] = table.shape;
    return {
      y: filled(x.shape, (index) => {
        const within = index % head;
        if (within >= 2 * half) return at(x, index);
        const position = Math.floor(index / width) % length;
        const entry = 2 * position * half + (within % half);
        const [cosine, sine] = [at(table, entry), at(table, entry + half)];
        const partner = within < half ? -at(x, index + half) : at(x, index - half);
        return at(x, index) * cosine + partner * sine;
      }),
    };
  },
  cases: [
    {
      name: "odd length, three heads",
      attributes: { heads: 3 },
      inputs: { x: { shape: [2, 5, 12] }, table: { shape: [5, 2, 2] } },
    },
    {
      name: "positions that differ between texts",
      attributes: { heads: 2 },
      inputs: { x: { shape: [3, 2, 8] }, table: { shape: [6, 2, 2] } },
    },
    ...[8, 10].map((head) => ({
      name: `the first ${head - 4} of ${head} elements, the rest as they are`,
      attributes: { heads: 3 },
      inputs: { x: { shape: [2, 5, 3 * head] }, table: { shape: [5, 2, (head - 4) / 2] } },
    })),
    {
      name: "the first half of a head of vectors",
      attributes: { heads: 2 },
      inputs: { x: { shape: [2, 70, 32] }, table: { shape: [70, 2, 4] } },
    },
    { name: "one pair", attributes: { heads: 1 }, inputs: { x: { shape: [1, 1, 2] }, table: { shape: [1, 2, 1] } } },
    {
      name: "rows that can be split over bindings",
      attributes: { heads: 2 },
      inputs: { x: { shape: [4, 64, 16] }, table: { shape: [64, 2, 4] } },
    },
    {
      name: "queries of LLaMA-2 7B, 128 tokens",
      attributes: { heads: 32 },
      inputs: { x: { shape: [1, 128, 4096] }, table: { shape: [128, 2, 64] } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "a table of another length",
      attributes: { heads: 1 },
      inputs: { x: { shape: [1, 3, 4], dtype: "f32" }, table: { shape: [2, 2, 2], dtype: "f32" } },
      message: /table \[2, 2, 2\] does not fit 1 heads of x \[1, 3, 4\]/,
    },
  ],
};
