import type { TestsOf } from "../op/declaration";
import { at, filled, input } from "./shared/reference";
import type { add } from "./add";

export const addTests: TestsOf<typeof add> = {
  reference(inputs) {
    const [a, b] = [input(inputs, "a"), input(inputs, "b")];
    return { y: filled(a.shape, (index) => at(a, index) + at(b, index)) };
  },
  cases: [
    { name: "odd size", attributes: {}, inputs: { a: { shape: [2, 3, 5] }, b: { shape: [2, 3, 5] } } },
    { name: "one element", attributes: {}, inputs: { a: { shape: [1] }, b: { shape: [1] } } },
    {
      name: "elements that can be split over bindings",
      attributes: {},
      inputs: { a: { shape: [37, 50] }, b: { shape: [37, 50] } },
    },
    {
      name: "residual of BERT-base, 512 tokens",
      attributes: {},
      inputs: { a: { shape: [512, 768] }, b: { shape: [512, 768] } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "shapes that differ",
      attributes: {},
      inputs: { a: { shape: [2, 3], dtype: "f32" }, b: { shape: [3], dtype: "f32" } },
      message: /a \[2, 3\] and b \[3\] differ/,
    },
  ],
};
