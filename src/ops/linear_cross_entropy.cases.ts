import { rows } from "../base/shape";
import type { TestsOf } from "../op/declaration";
import { at, input, matrixProduct } from "./shared/reference";
import { rowLossReference } from "./shared/row-loss.cases";
import { LOGIT_BYTES } from "./linear_cross_entropy";
import type { linearCrossEntropy } from "./linear_cross_entropy";

export const linearCrossEntropyTests: TestsOf<typeof linearCrossEntropy> = {
  reference(inputs, attributes) {
    const [x, w] = [input(inputs, "x"), input(inputs, "w")];
    const [classes = 0, width = 0] = w.shape;
    const count = rows(x.shape);
    const normalizer = at(input(inputs, "normalizer"), 0);
    const products = matrixProduct(x, w, count, classes, width, { b: true });
    const { bias } = inputs;
    const data = bias ? products.map((value, i) => value + at(bias, i % classes)) : products;
    const logits = { shape: [count, classes], data };
    const { loss, slopes } = rowLossReference(logits, input(inputs, "labels"), normalizer, attributes);
    const slope = matrixProduct({ shape: logits.shape, data: slopes }, w, count, width, classes);
    return {
      loss: { shape: [1], data: Float64Array.of(loss) },
      ...(attributes.differentiable ? { slope: { shape: x.shape, data: slope } } : {}),
    };
  },
  cases: [
    ...(["f16", "int8"] as const).map((format) => ({
      name: `weight in ${format}`,
      attributes: { ignored: -100, smoothing: 0, differentiable: true, logitBytes: 100 },
      inputs: {
        x: { shape: [70, 66] },
        w: { shape: [13, 66], format },
        labels: { shape: [70], below: 13 },
        normalizer: { shape: [1], values: [1 / 70] },
      },
    })),
    {
      name: "with a bias, logits in chunks",
      attributes: { ignored: -100, smoothing: 0.1, differentiable: true, logitBytes: 100 },
      inputs: {
        x: { shape: [70, 6] },
        w: { shape: [13, 6] },
        bias: { shape: [1, 13] },
        labels: { shape: [70], below: 13 },
        normalizer: { shape: [1], values: [1 / 70] },
      },
    },
    {
      name: "five classes, a row ignored",
      attributes: { ignored: -100, smoothing: 0, differentiable: true, logitBytes: LOGIT_BYTES },
      inputs: {
        x: { shape: [5, 3] },
        w: { shape: [5, 3] },
        labels: { shape: [5], values: [0, 2, -100, 1, 4] },
        normalizer: { shape: [1], values: [0.25] },
      },
    },
    {
      name: "label smoothing, two axes of rows",
      attributes: { ignored: -100, smoothing: 0.1, differentiable: true, logitBytes: LOGIT_BYTES },
      inputs: {
        x: { shape: [2, 6, 7] },
        w: { shape: [131, 7] },
        labels: { shape: [2, 6], below: 131 },
        normalizer: { shape: [1], values: [1 / 12] },
      },
    },
    {
      name: "logits near a soft cap, label smoothing",
      attributes: {
        ignored: -100,
        smoothing: 0.1,
        cap: 3,
        differentiable: true,
        logitBytes: LOGIT_BYTES,
      },
      inputs: {
        x: { shape: [6, 7] },
        w: { shape: [12, 7] },
        labels: { shape: [6], below: 12 },
        normalizer: { shape: [1], values: [1 / 6] },
      },
    },
    {
      name: "rows and weights that can be split over bindings",
      attributes: { ignored: -100, smoothing: 0, differentiable: true, logitBytes: LOGIT_BYTES },
      inputs: {
        x: { shape: [192, 128] },
        w: { shape: [72, 128] },
        labels: { shape: [192], below: 72 },
        normalizer: { shape: [1], values: [1 / 192] },
      },
    },
    {
      name: "several chunks of rows, the last one shorter",
      attributes: { ignored: -100, smoothing: 0, differentiable: true, logitBytes: 100 },
      inputs: {
        x: { shape: [150, 5] },
        w: { shape: [9, 5] },
        labels: { shape: [150], below: 9 },
        normalizer: { shape: [1], values: [1 / 150] },
      },
    },
    {
      name: "GPT-2's vocabulary, 64 tokens",
      attributes: { ignored: -100, smoothing: 0, differentiable: true, logitBytes: LOGIT_BYTES },
      inputs: {
        x: { shape: [64, 768] },
        w: { shape: [50257, 768] },
        labels: { shape: [64], below: 50257 },
        normalizer: { shape: [1], values: [1 / 64] },
      },
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
        normalizer: { shape: [1], dtype: "f32" },
      },
      message: /x \[4, 3\], w \[5, 2\] and labels \[4\] do not fit/,
    },
  ],
};
