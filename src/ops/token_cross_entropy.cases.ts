import type { TestsOf } from "../op/declaration";
import { input } from "./shared/reference";
import { rowLossReference } from "./shared/row-loss.cases";
import type { tokenCrossEntropy } from "./token_cross_entropy";

export const tokenCrossEntropyTests: TestsOf<typeof tokenCrossEntropy> = {
  reference(inputs, attributes) {
    const { losses, lse } = rowLossReference(input(inputs, "x"), input(inputs, "labels"), 1, attributes);
    return { row_loss: { shape: [losses.length], data: losses }, lse: { shape: [lse.length], data: lse } };
  },
  cases: [
    {
      name: "three classes, one row ignored",
      attributes: { ignored: -100, smoothing: 0 },
      inputs: { x: { shape: [5, 3] }, labels: { shape: [5], values: [0, 2, -100, 1, 1] } },
    },
    {
      name: "label smoothing, more classes than a workgroup",
      attributes: { ignored: -100, smoothing: 0.1 },
      inputs: { x: { shape: [2, 6, 131], scale: 3 }, labels: { shape: [2, 6], below: 131 } },
    },
    {
      name: "one row, two classes, logits far apart",
      attributes: { ignored: -100, smoothing: 0 },
      inputs: { x: { shape: [1, 2], values: [200, -200] }, labels: { shape: [1], values: [1] } },
    },
    {
      name: "rows that can be split over bindings",
      attributes: { ignored: -100, smoothing: 0 },
      inputs: { x: { shape: [192, 64] }, labels: { shape: [192], below: 64 } },
    },
    {
      name: "GPT-2's vocabulary, 64 tokens",
      attributes: { ignored: -100, smoothing: 0 },
      inputs: { x: { shape: [64, 50257] }, labels: { shape: [64], below: 50257 } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "fewer labels than rows",
      attributes: { ignored: -100, smoothing: 0 },
      inputs: { x: { shape: [4, 3], dtype: "f32" }, labels: { shape: [3], dtype: "i32" } },
      message: /logits \[4, 3\] do not fit labels \[3\]/,
    },
  ],
};
