import { columns, rows } from "../base/shape";
import type { TestsOf } from "../op/declaration";
import { at, filled, input } from "./shared/reference";
import type { embedding } from "./embedding";

export const embeddingTests: TestsOf<typeof embedding> = {
  reference(inputs) {
    const [table, ids] = [input(inputs, "table"), input(inputs, "ids")];
    const width = columns(table.shape);
    return {
      y: filled([...ids.shape, width], (index) => {
        const id = at(ids, Math.floor(index / width));
        return id >= 0 && id < rows(table.shape) ? at(table, id * width + (index % width)) : 0;
      }),
    };
  },
  cases: [
    ...(["f16", "bf16"] as const).map((format) => ({
      name: `table in ${format}, odd width`,
      attributes: {},
      inputs: { table: { shape: [21, 7], format }, ids: { shape: [3, 5], below: 21 } },
    })),
    {
      name: "table in bf16, vectors of two rows",
      attributes: {},
      inputs: { table: { shape: [6, 12], format: "bf16" }, ids: { shape: [2, 4], below: 6 } },
    },
    {
      name: "repeated ids, odd sizes",
      attributes: {},
      inputs: { table: { shape: [5, 7] }, ids: { shape: [3, 4], values: [4, 0, 0, 2, 4, 4, 2, 1, 0, 4, 1, 1] } },
    },
    {
      name: "first tokens of a batch, from a table of three axes",
      attributes: {},
      inputs: { table: { shape: [2, 3, 70] }, ids: { shape: [2], values: [0, 3] } },
    },
    { name: "one row", attributes: {}, inputs: { table: { shape: [1, 1] }, ids: { shape: [1], values: [0] } } },
    {
      name: "ids outside the table give zeros",
      attributes: {},
      inputs: { table: { shape: [3, 2] }, ids: { shape: [4], values: [-1, 2, 3, 2147483647] } },
    },
    {
      name: "table and tokens that can be split over bindings",
      attributes: {},
      inputs: { table: { shape: [200, 8] }, ids: { shape: [2, 100], below: 200 } },
    },
    {
      name: "BERT-base words, 512 tokens",
      attributes: {},
      inputs: { table: { shape: [30522, 768] }, ids: { shape: [4, 128], below: 30522 } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "table of one axis",
      attributes: {},
      inputs: { table: { shape: [5], dtype: "f32" }, ids: { shape: [2], dtype: "i32" } },
      message: /table \[5\] has no rows/,
    },
  ],
};
