import type { TestsOf } from "../op/declaration";
import { at, filled, input } from "./shared/reference";
import type { applyMask } from "./apply_mask";

export const applyMaskTests: TestsOf<typeof applyMask> = {
  reference(inputs) {
    const [x, mask] = [input(inputs, "x"), input(inputs, "mask")];
    return { x: filled(x.shape, (i) => (at(mask, i) === 0 ? 0 : at(x, i) * at(mask, i))) };
  },
  cases: [
    {
      name: "zeros and ones, an infinite element",
      attributes: {},
      inputs: { x: { shape: [4], values: [1, -2, Infinity, 4] }, mask: { shape: [4], values: [1, 0, 0, 1] } },
    },
    {
      name: "elements that can be split over bindings",
      attributes: {},
      inputs: { x: { shape: [37, 50] }, mask: { shape: [37, 50] } },
    },
    {
      name: "A of BERT-base, rank 4",
      attributes: {},
      inputs: { x: { shape: [4, 768] }, mask: { shape: [4, 768] } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "a mask of another shape",
      attributes: {},
      inputs: { x: { shape: [2, 3], dtype: "f32" }, mask: { shape: [3, 2], dtype: "f32" } },
      message: /mask \[3, 2\] differs from x \[2, 3\]/,
    },
  ],
};
