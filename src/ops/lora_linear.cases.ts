import { columns } from "../base/shape";
import type { TestsOf } from "../op/declaration";
import { linearTests } from "./linear.cases";
import { rowsPerText } from "./shared/dropout";
import { droppedElement } from "./shared/dropout.cases";
import { input, matrixProduct } from "./shared/reference";
import type { loraLinear } from "./lora_linear";

export const loraLinearTests: TestsOf<typeof loraLinear> = {
  reference(inputs, attributes) {
    const [x, a, b] = [input(inputs, "x"), input(inputs, "a"), input(inputs, "b")];
    const base = linearTests.reference(inputs, { layout: attributes.layout })["y"]!;
    const [r = 0, inner = 0] = a.shape;
    const count = x.data.length / inner;
    const { dropout: probability, salt } = attributes;
    const seed = inputs["seed"];
    const mask = seed && { probability, salt, seed, perText: inner * rowsPerText("lora_linear", seed.shape, count) };
    const dropped = mask ? { shape: x.shape, data: x.data.map((v, i) => droppedElement(v, i, mask)) } : x;
    const z = { shape: [count, r], data: matrixProduct(dropped, a, count, r, inner, { b: true }) };
    const out = columns(base.shape);
    const delta = matrixProduct(z, b, count, out, r, { b: true });
    return { y: { shape: base.shape, data: base.data.map((v, i) => v + attributes.scale * delta[i]!) }, z };
  },
  cases: [
    ...(["bf16", "nf4"] as const).map((format) => ({
      name: `weight in ${format}, bias, dropout`,
      attributes: { layout: "out_in" as const, scale: 0.5, dropout: 0.25, salt: 3 },
      inputs: {
        x: { shape: [6, 70] },
        w: { shape: [11, 70], format },
        bias: { shape: [11] },
        a: { shape: [3, 70] },
        b: { shape: [11, 3] },
        seed: { shape: [2, 2], values: [5, 6, 7, 8] },
      },
    })),
    {
      name: "torch layout, rank 4, with bias",
      attributes: { layout: "out_in", scale: 4, dropout: 0, salt: 0 },
      inputs: {
        x: { shape: [2, 9, 12] },
        w: { shape: [20, 12] },
        bias: { shape: [20] },
        a: { shape: [4, 12] },
        b: { shape: [20, 4] },
      },
    },
    {
      name: "Conv1D layout, rank 3, with dropout",
      attributes: { layout: "in_out", scale: 0.5, dropout: 0.3, salt: 7 },
      inputs: {
        x: { shape: [37, 16] },
        w: { shape: [16, 33] },
        a: { shape: [3, 16] },
        b: { shape: [33, 3] },
        seed: { shape: [1, 2], values: [11, 5] },
      },
    },
    {
      name: "rank 1, one row",
      attributes: { layout: "out_in", scale: 1, dropout: 0, salt: 0 },
      inputs: { x: { shape: [1, 5] }, w: { shape: [3, 5] }, a: { shape: [1, 5] }, b: { shape: [3, 1] } },
    },
    {
      name: "rows that can be split over bindings, with dropout",
      attributes: { layout: "out_in", scale: 2, dropout: 0.1, salt: 3 },
      inputs: {
        x: { shape: [128, 64] },
        w: { shape: [64, 64] },
        bias: { shape: [64] },
        a: { shape: [4, 64] },
        b: { shape: [64, 4] },
        seed: { shape: [4, 2], values: [1, 2, 1, 3, 1, 4, 1, 5] },
      },
    },
    {
      name: "BERT-base query, 512 tokens, rank 4",
      attributes: { layout: "out_in", scale: 4, dropout: 0, salt: 0 },
      inputs: {
        x: { shape: [512, 768] },
        w: { shape: [768, 768] },
        bias: { shape: [768] },
        a: { shape: [4, 768] },
        b: { shape: [768, 4] },
      },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "rank of a and b differ",
      attributes: { layout: "out_in", scale: 1, dropout: 0, salt: 0 },
      inputs: {
        x: { shape: [2, 3], dtype: "f32" },
        w: { shape: [4, 3], dtype: "f32" },
        a: { shape: [2, 3], dtype: "f32" },
        b: { shape: [4, 1], dtype: "f32" },
      },
      message: /do not fit a projection from 3 to 4/,
    },
    {
      name: "dropout without a seed",
      attributes: { layout: "out_in", scale: 1, dropout: 0.5, salt: 0 },
      inputs: {
        x: { shape: [2, 3], dtype: "f32" },
        w: { shape: [4, 3], dtype: "f32" },
        a: { shape: [2, 3], dtype: "f32" },
        b: { shape: [4, 2], dtype: "f32" },
      },
      message: /needs a seed/,
    },
  ],
};
