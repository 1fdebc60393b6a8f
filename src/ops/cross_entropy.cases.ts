import type { TestsOf } from "../op/declaration";
import { at, input } from "./shared/reference";
import { rowLossReference } from "./shared/row-loss.cases";
import type { crossEntropy } from "./cross_entropy";

export const crossEntropyTests: TestsOf<typeof crossEntropy> = {
  reference(inputs, attributes) {
    const normalizer = at(input(inputs, "normalizer"), 0);
    const { loss, lse } = rowLossReference(input(inputs, "x"), input(inputs, "labels"), normalizer, attributes);
    return { loss: { shape: [1], data: Float64Array.of(loss) }, lse: { shape: [lse.length], data: lse } };
  },
  cases: [
    {
      name: "three classes, one row ignored",
      attributes: { ignored: -100, smoothing: 0 },
      inputs: {
        x: { shape: [5, 3] },
        labels: { shape: [5], values: [0, 2, -100, 1, 1] },
        normalizer: { shape: [1], values: [0.25] },
      },
    },
    {
      name: "label smoothing, more classes than a workgroup",
      attributes: { ignored: -100, smoothing: 0.1 },
      inputs: {
        x: { shape: [2, 6, 131], scale: 3 },
        labels: { shape: [2, 6], below: 131 },
        normalizer: { shape: [1], values: [1 / 12] },
      },
    },
    {
      name: "one row, two classes, logits far apart",
      attributes: { ignored: -100, smoothing: 0 },
      inputs: {
        x: { shape: [1, 2], values: [200, -200] },
        labels: { shape: [1], values: [1] },
        normalizer: { shape: [1], values: [1] },
      },
    },
    {
      name: "rows that can be split over bindings",
      attributes: { ignored: -100, smoothing: 0 },
      inputs: {
        x: { shape: [256, 4] },
        labels: { shape: [256], below: 4 },
        normalizer: { shape: [1], values: [1 / 256] },
      },
    },
    {
      name: "odd rows that begin within a vector",
      attributes: { ignored: -100, smoothing: 0.1 },
      inputs: {
        x: { shape: [8, 67], scale: 3 },
        labels: { shape: [8], values: [0, 66, -100, 1, 3, 64, 65, 66] },
        normalizer: { shape: [1], values: [1 / 7] },
      },
    },
    {
      name: "GPT-2's vocabulary, 64 tokens",
      attributes: { ignored: -100, smoothing: 0 },
      inputs: {
        x: { shape: [64, 50257] },
        labels: { shape: [64], below: 50257 },
        normalizer: { shape: [1], values: [1 / 64] },
      },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "fewer labels than rows",
      attributes: { ignored: -100, smoothing: 0 },
      inputs: {
        x: { shape: [4, 3], dtype: "f32" },
        labels: { shape: [3], dtype: "i32" },
        normalizer: { shape: [1], dtype: "f32" },
      },
      message: /logits \[4, 3\] do not fit labels \[3\]/,
    },
  ],
};
