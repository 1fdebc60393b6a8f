import type { TestsOf } from "../op/declaration";
import { at, input } from "./shared/reference";
import type { meanSquaredError } from "./mean_squared_error";

export const meanSquaredErrorTests: TestsOf<typeof meanSquaredError> = {
  reference(inputs) {
    const [prediction, targets, mask] = [input(inputs, "prediction"), input(inputs, "targets"), input(inputs, "mask")];
    let sum = 0;
    for (let i = 0; i < prediction.data.length; i++) {
      if (at(mask, i) !== 0) sum += (at(prediction, i) - at(targets, i)) ** 2;
    }
    return { loss: { shape: [1], data: Float64Array.of(sum * at(input(inputs, "normalizer"), 0)) } };
  },
  cases: [
    {
      name: "one column, a padding row",
      attributes: {},
      inputs: {
        prediction: { shape: [5, 1] },
        targets: { shape: [5], scale: 2 },
        mask: { shape: [5], values: [1, 1, 0, 1, 1] },
        normalizer: { shape: [1], values: [0.25] },
      },
    },
    {
      name: "one row",
      attributes: {},
      inputs: {
        prediction: { shape: [1] },
        targets: { shape: [1] },
        mask: { shape: [1], values: [1] },
        normalizer: { shape: [1], values: [1] },
      },
    },
    {
      name: "rows that can be split over bindings",
      attributes: {},
      inputs: {
        prediction: { shape: [1300] },
        targets: { shape: [1300] },
        mask: { shape: [1300], below: 2 },
        normalizer: { shape: [1], values: [1 / 650] },
      },
    },
    {
      name: "65,536 rows",
      attributes: {},
      inputs: {
        prediction: { shape: [65536] },
        targets: { shape: [65536] },
        mask: { shape: [65536], below: 2 },
        normalizer: { shape: [1], values: [1 / 32768] },
      },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "two predictions a row",
      attributes: {},
      inputs: {
        prediction: { shape: [4, 2], dtype: "f32" },
        targets: { shape: [4], dtype: "f32" },
        mask: { shape: [4], dtype: "i32" },
        normalizer: { shape: [1], dtype: "f32" },
      },
      message: /prediction \[4, 2\], targets \[4\]/,
    },
  ],
};
