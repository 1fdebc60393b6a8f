import type { TestsOf } from "../op/declaration";
import { at, input } from "./shared/reference";
import type { squareSum } from "./square_sum";

export const squareSumTests: TestsOf<typeof squareSum> = {
  reference(inputs) {
    const previous = inputs["previous"] ? at(inputs["previous"], 0) : 0;
    const sum = input(inputs, "x").data.reduce((partial, v) => partial + v * v, previous);
    // A total beyond the range of f32 is infinite.
    return { total: { shape: [1], data: Float64Array.of(Math.fround(sum)) } };
  },
  cases: [
    {
      name: "first tensor, odd size",
      attributes: {},
      inputs: { x: { shape: [3, 7] } },
    },
    {
      name: "second tensor, several segments",
      attributes: {},
      inputs: { x: { shape: [11, 100] }, previous: { shape: [1], values: [5] } },
    },
    { name: "one element", attributes: {}, inputs: { x: { shape: [1] } } },
    {
      name: "an infinite element in a later segment",
      attributes: {},
      inputs: { x: { shape: [1600], values: Array.from({ length: 1600 }, (_, i) => (i === 577 ? -Infinity : 1)) } },
    },
    {
      name: "a NaN and an infinite element",
      attributes: {},
      inputs: {
        x: { shape: [70], values: Array.from({ length: 70 }, (_, i) => (i === 3 ? NaN : i === 66 ? Infinity : 1)) },
        previous: { shape: [1], values: [2] },
      },
    },
    {
      name: "a previous total that is NaN",
      attributes: {},
      inputs: { x: { shape: [5] }, previous: { shape: [1], values: [NaN] } },
    },
    {
      name: "a finite element whose square is infinite",
      attributes: {},
      inputs: { x: { shape: [3], values: [1e20, 2, 3] } },
    },
    {
      name: "elements that can be split over bindings",
      attributes: {},
      inputs: { x: { shape: [50, 51], scale: 0.01 }, previous: { shape: [1], values: [0.5] } },
    },
    {
      name: "embedding gradient of GPT-2, a quarter",
      attributes: {},
      inputs: { x: { shape: [12564, 768] } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "previous total of two numbers",
      attributes: {},
      inputs: { x: { shape: [2], dtype: "f32" }, previous: { shape: [2], dtype: "f32" } },
      message: /previous \[2\] is not one number/,
    },
  ],
};
