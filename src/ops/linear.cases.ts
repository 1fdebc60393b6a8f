import { WEIGHT_FORMATS } from "../base/packed";
import { rows } from "../base/shape";
import type { TestsOf } from "../op/declaration";
import { at, input, matrixProduct } from "./shared/reference";
import type { linear } from "./linear";

export const linearTests: TestsOf<typeof linear> = {
  reference(inputs, { layout }) {
    const x = input(inputs, "x");
    const w = input(inputs, "w");
    const [first = 0, second = 0] = w.shape;
    const isOutFirst = layout === "out_in";
    const [out, inner] = isOutFirst ? [first, second] : [second, first];
    const data = matrixProduct(x, w, rows(x.shape), out, inner, { b: isOutFirst });
    const bias = inputs["bias"];
    return {
      y: { shape: [...x.shape.slice(0, -1), out], data: bias ? data.map((v, i) => v + at(bias, i % out)) : data },
    };
  },
  cases: [
    // Only rows whose length is a multiple of four are read as vectors.
    ...WEIGHT_FORMATS.filter((format) => format !== "f32").flatMap((format) => [
      {
        name: `weight in ${format}, out_in, blocks that are not full`,
        attributes: { layout: "out_in" },
        inputs: { x: { shape: [2, 6, 132] }, w: { shape: [12, 132], format }, bias: { shape: [12] } },
      } as const,
      {
        name: `weight in ${format}, in_out, words that are not full`,
        attributes: { layout: "in_out" },
        inputs: { x: { shape: [2, 5, 130] }, w: { shape: [130, 9], format }, bias: { shape: [9] } },
      } as const,
    ]),
    {
      name: "rows of a quantised weight that can be split over bindings",
      attributes: { layout: "out_in" },
      inputs: { x: { shape: [3, 64] }, w: { shape: [640, 64], format: "nf4" } },
    },
    {
      name: "torch layout with bias, odd sizes",
      attributes: { layout: "out_in" },
      inputs: { x: { shape: [3, 5, 7] }, w: { shape: [11, 7] }, bias: { shape: [11] } },
    },
    {
      name: "Conv1D layout without bias",
      attributes: { layout: "in_out" },
      inputs: { x: { shape: [66, 34] }, w: { shape: [34, 70] } },
    },
    {
      name: "one row, one column",
      attributes: { layout: "out_in" },
      inputs: { x: { shape: [1, 1] }, w: { shape: [1, 1] }, bias: { shape: [1] } },
    },
    {
      name: "rows that can be split over bindings",
      attributes: { layout: "in_out" },
      inputs: { x: { shape: [96, 64] }, w: { shape: [64, 128] }, bias: { shape: [128] } },
    },
    {
      name: "BERT-base projection, 512 tokens",
      attributes: { layout: "out_in" },
      inputs: { x: { shape: [512, 768] }, w: { shape: [768, 768] }, bias: { shape: [768] } },
      bench: true,
    },
    {
      name: "square 1024",
      attributes: { layout: "in_out" },
      inputs: { x: { shape: [1024, 1024] }, w: { shape: [1024, 1024] } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "inner sizes differ",
      attributes: { layout: "out_in" },
      inputs: { x: { shape: [2, 3], dtype: "f32" }, w: { shape: [4, 5], dtype: "f32" } },
      message: /does not fit w \[4, 5\]/,
    },
    {
      name: "bias of another size",
      attributes: { layout: "in_out" },
      inputs: {
        x: { shape: [2, 3], dtype: "f32" },
        w: { shape: [3, 5], dtype: "f32" },
        bias: { shape: [3], dtype: "f32" },
      },
      message: /bias \[3\] does not fit 5 outputs/,
    },
  ],
};
