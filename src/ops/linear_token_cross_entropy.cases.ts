import { rows } from "../base/shape";
import type { TestsOf } from "../op/declaration";
import { LOGIT_BYTES } from "./linear_cross_entropy";
import type { linearTokenCrossEntropy } from "./linear_token_cross_entropy";
import { at, input, matrixProduct } from "./shared/reference";
import { rowLossReference } from "./shared/row-loss.cases";

export const linearTokenCrossEntropyTests: TestsOf<typeof linearTokenCrossEntropy> = {
  reference(inputs, attributes) {
    const [x, w] = [input(inputs, "x"), input(inputs, "w")];
    const [classes = 0, width = 0] = w.shape;
    const count = rows(x.shape);
    const products = matrixProduct(x, w, count, classes, width, { b: true });
    const { bias } = inputs;
    const data = bias ? products.map((value, i) => value + at(bias, i % classes)) : products;
    const logits = { shape: [count, classes], data };
    const { losses, slopes } = rowLossReference(logits, input(inputs, "labels"), 1, attributes);
    const slope = matrixProduct({ shape: logits.shape, data: slopes }, w, count, width, classes);
    return {
      row_loss: { shape: [count], data: losses },
      ...(attributes.differentiable ? { slope: { shape: x.shape, data: slope } } : {}),
    };
  },
  cases: [
    {
      name: "five classes, a row ignored",
      attributes: { ignored: -100, smoothing: 0, differentiable: true, logitBytes: LOGIT_BYTES },
      inputs: { x: { shape: [5, 3] }, w: { shape: [5, 3] }, labels: { shape: [5], values: [0, 2, -100, 1, 4] } },
    },
    {
      name: "two axes of rows, in chunks, weight in f16, a bias and a soft cap",
      attributes: { ignored: -100, smoothing: 0, cap: 3, differentiable: true, logitBytes: 100 },
      inputs: {
        x: { shape: [2, 75, 8] },
        w: { shape: [13, 8], format: "f16" },
        bias: { shape: [13] },
        labels: { shape: [2, 75], below: 13 },
      },
    },
    {
      name: "rows and weights that can be split over bindings",
      attributes: { ignored: -100, smoothing: 0, differentiable: true, logitBytes: LOGIT_BYTES },
      inputs: { x: { shape: [192, 80] }, w: { shape: [80, 80] }, labels: { shape: [192], below: 80 } },
    },
    {
      name: "one row",
      attributes: { ignored: -100, smoothing: 0, differentiable: true, logitBytes: LOGIT_BYTES },
      inputs: { x: { shape: [1, 3] }, w: { shape: [5, 3] }, labels: { shape: [1], values: [2] } },
    },
    {
      name: "GPT-2's vocabulary, 64 tokens",
      attributes: { ignored: -100, smoothing: 0, differentiable: true, logitBytes: LOGIT_BYTES },
      inputs: { x: { shape: [64, 768] }, w: { shape: [50257, 768] }, labels: { shape: [64], below: 50257 } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "a w of another width than x",
      attributes: { ignored: -100, smoothing: 0, differentiable: true, logitBytes: LOGIT_BYTES },
      inputs: {
        x: { shape: [4, 3], dtype: "f32" },
        w: { shape: [5, 2], dtype: "f32" },
        labels: { shape: [4], dtype: "i32" },
      },
      message: /linear_token_cross_entropy: x \[4, 3\], w \[5, 2\] and labels \[4\] do not fit/,
    },
  ],
};
