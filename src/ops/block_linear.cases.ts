import { columns } from "../base/shape";
import type { TestsOf } from "../op/declaration";
import type { blockLinear } from "./block_linear";
import { at, filled, input } from "./shared/reference";

export const blockLinearTests: TestsOf<typeof blockLinear> = {
  reference(inputs, { layout }) {
    const [x, w] = [input(inputs, "x"), input(inputs, "w")];
    const [first = 0, second = 0] = w.shape.slice(-2);
    const [inSize, out] = layout === "in_out" ? [first, second] : [second, first];
    const parts = columns(x.shape) / inSize;
    const areOwn = w.shape.length === 3 && (w.shape[0] ?? 1) > 1;
    const element = (index: number): number => {
      const [part, o] = [Math.floor(index / out), index % out];
      const block = areOwn ? (part % parts) * inSize * out : 0;
      let sum = 0;
      for (let i = 0; i < inSize; i++) {
        sum += at(x, part * inSize + i) * at(w, block + (layout === "in_out" ? i * out + o : o * inSize + i));
      }
      return sum;
    };
    return { y: filled([...x.shape.slice(0, -1), parts * out], element) };
  },
  cases: [
    {
      name: "parts of texts",
      attributes: { layout: "out_in" },
      inputs: { x: { shape: [2, 3, 24] }, w: { shape: [5, 8] } },
    },
    {
      name: "odd sizes, stored by inputs",
      attributes: { layout: "in_out" },
      inputs: { x: { shape: [7, 15] }, w: { shape: [5, 3] } },
    },
    {
      name: "a block for each part",
      attributes: { layout: "in_out" },
      inputs: { x: { shape: [2, 3, 15] }, w: { shape: [3, 5, 4] } },
    },
    {
      name: "blocks of more than a tile, stored by outputs",
      attributes: { layout: "out_in" },
      inputs: { x: { shape: [45, 74] }, w: { shape: [2, 34, 37] } },
    },
    {
      name: "one block with a leading axis",
      attributes: { layout: "in_out" },
      inputs: { x: { shape: [4, 9] }, w: { shape: [1, 3, 3] } },
    },
    {
      name: "rows with a block for each part that can be split over bindings",
      attributes: { layout: "in_out" },
      inputs: { x: { shape: [320, 24] }, w: { shape: [3, 8, 8] } },
    },
    { name: "one part", attributes: { layout: "out_in" }, inputs: { x: { shape: [4, 6] }, w: { shape: [3, 6] } } },
    { name: "one element", attributes: { layout: "out_in" }, inputs: { x: { shape: [1, 1] }, w: { shape: [1, 1] } } },
    {
      name: "rows that can be split over bindings",
      attributes: { layout: "out_in" },
      inputs: { x: { shape: [64, 128] }, w: { shape: [8, 16] } },
    },
    {
      name: "LoKr of BERT-base, rank 8, 32 x 128",
      attributes: { layout: "out_in" },
      inputs: { x: { shape: [32, 128, 768] }, w: { shape: [8, 32] } },
      bench: true,
    },
    {
      name: "OFT of BERT-base in blocks of 32, 32 x 128",
      attributes: { layout: "in_out" },
      inputs: { x: { shape: [32, 128, 768] }, w: { shape: [24, 32, 32] } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "more blocks than parts",
      attributes: { layout: "in_out" },
      inputs: { x: { shape: [2, 8], dtype: "f32" }, w: { shape: [3, 4, 4], dtype: "f32" } },
      message: /x \[2, 8\] has no parts that fit w \[3, 4, 4\]/,
    },
    {
      name: "rows that are no whole number of parts",
      attributes: { layout: "out_in" },
      inputs: { x: { shape: [2, 9], dtype: "f32" }, w: { shape: [3, 4], dtype: "f32" } },
      message: /x \[2, 9\] has no parts that fit w \[3, 4\]/,
    },
  ],
};
