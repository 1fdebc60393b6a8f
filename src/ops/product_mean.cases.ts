import type { TestsOf } from "../op/declaration";
import { at, input } from "./shared/reference";
import type { productMean } from "./product_mean";

export const productMeanTests: TestsOf<typeof productMean> = {
  reference(inputs) {
    const [a, b] = [input(inputs, "a"), input(inputs, "b")];
    const sum = a.data.reduce((total, v, i) => total + v * at(b, i), 0);
    return { y: { shape: [1], data: Float64Array.of(sum / a.data.length) } };
  },
  cases: [
    { name: "odd size", attributes: {}, inputs: { a: { shape: [3, 5], offset: 2 }, b: { shape: [3, 5], offset: 1 } } },
    {
      name: "more elements than a workgroup",
      attributes: {},
      inputs: { a: { shape: [4, 70], offset: 2 }, b: { shape: [4, 70], offset: 1 } },
    },
    { name: "one element", attributes: {}, inputs: { a: { shape: [1] }, b: { shape: [1] } } },
    {
      name: "A of BERT-base, rank 4",
      attributes: {},
      inputs: { a: { shape: [4, 768] }, b: { shape: [4, 768] } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "shapes that differ",
      attributes: {},
      inputs: { a: { shape: [2], dtype: "f32" }, b: { shape: [3], dtype: "f32" } },
      message: /a \[2\] and b \[3\] differ/,
    },
  ],
};
