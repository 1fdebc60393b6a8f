import { columns } from "../base/shape";
import type { CaseInput, TestsOf } from "../op/declaration";
import { at, filled, input } from "./shared/reference";
import type { arrangeRows } from "./arrange_rows";

/** Case inputs: x of `texts` texts with `rows` rows of `width`, arranged by a table. */
function arranged(texts: number, rows: number, width: number, from: readonly number[]): Record<string, CaseInput> {
  return {
    x: { shape: [texts, rows, width] },
    from: { shape: [from.length], values: from },
    back: { shape: [rows], values: Array.from({ length: rows }, (_, row) => from.indexOf(row)) },
  };
}

export const arrangeRowsTests: TestsOf<typeof arrangeRows> = {
  reference(inputs, { texts, group, joined }) {
    const [x, from] = [input(inputs, "x"), input(inputs, "from")];
    const [width, count] = [columns(x.shape), from.data.length];
    const rows = x.data.length / width / texts;
    const y = filled([(texts * count) / (group * joined), group, joined * width], (index) => {
      const row = Math.floor(index / width);
      const source = at(from, row % count);
      return source < 0 ? 0 : at(x, (Math.floor(row / count) * rows + source) * width + (index % width));
    });
    return { y };
  },
  cases: [
    {
      name: "windows with padding, odd width",
      attributes: { texts: 2, group: 4, joined: 1 },
      inputs: arranged(2, 9, 5, [4, 5, 7, 8, -1, 3, -1, 6, -1, -1, 0, 1, -1, -1, -1, 2]),
    },
    {
      name: "rows side by side, one left out",
      attributes: { texts: 3, group: 2, joined: 2 },
      inputs: arranged(3, 5, 8, [3, 1, 0, 4]),
    },
    { name: "one row", attributes: { texts: 1, group: 1, joined: 1 }, inputs: arranged(1, 1, 1, [0]) },
    {
      name: "texts that can be split over bindings",
      attributes: { texts: 64, group: 4, joined: 1 },
      inputs: arranged(64, 4, 64, [2, 0, 3, 1]),
    },
    {
      name: "Swin-base, 8 images, first stage",
      attributes: { texts: 8, group: 49, joined: 1 },
      inputs: arranged(
        8,
        3136,
        128,
        Array.from({ length: 3136 }, (_, i) => (5 * i) % 3136),
      ),
      bench: true,
    },
  ],
  malformed: [
    {
      name: "a table of another number of rows",
      attributes: { texts: 2, group: 1, joined: 1 },
      inputs: {
        x: { shape: [2, 3, 4], dtype: "f32" },
        from: { shape: [3], dtype: "i32" },
        back: { shape: [2], dtype: "i32" },
      },
      message: /from \[3\], back \[2\] do not fit 2 texts/,
    },
  ],
};
