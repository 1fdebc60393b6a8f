import type { TestsOf } from "../op/declaration";
import { at, filled, input } from "./shared/reference";
import type { prepend } from "./prepend";

export const prependTests: TestsOf<typeof prepend> = {
  reference(inputs) {
    const [head, x] = [input(inputs, "head"), input(inputs, "x")];
    const [b = 0, t = 0, d = 0] = x.shape;
    const rows = head.data.length / d + t;
    return {
      y: filled([b, rows, d], (index) => {
        const [text, within] = [Math.floor(index / (rows * d)), index % (rows * d)];
        const withinX = within - head.data.length;
        return withinX < 0 ? at(head, within) : at(x, text * t * d + withinX);
      }),
    };
  },
  cases: [
    { name: "odd sizes", attributes: {}, inputs: { head: { shape: [3, 5] }, x: { shape: [2, 4, 5] } } },
    { name: "a class token", attributes: {}, inputs: { head: { shape: [1, 1, 7] }, x: { shape: [3, 9, 7] } } },
    { name: "one element", attributes: {}, inputs: { head: { shape: [1] }, x: { shape: [1, 1, 1] } } },
    {
      name: "texts that can be split over bindings",
      attributes: {},
      inputs: { head: { shape: [4, 64] }, x: { shape: [16, 4, 64] } },
    },
    {
      name: "20 virtual tokens before BERT-base, 8 x 128",
      attributes: {},
      inputs: { head: { shape: [20, 768] }, x: { shape: [8, 128, 768] } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "rows of another width",
      attributes: {},
      inputs: { head: { shape: [2, 3], dtype: "f32" }, x: { shape: [1, 2, 4], dtype: "f32" } },
      message: /head \[2, 3\] does not fit x \[1, 2, 4\]/,
    },
  ],
};
