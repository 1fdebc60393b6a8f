import type { TestsOf } from "../op/declaration";
import { at, filled, input } from "./shared/reference";
import type { addBroadcast } from "./add_broadcast";

export const addBroadcastTests: TestsOf<typeof addBroadcast> = {
  reference(inputs) {
    const [a, b] = [input(inputs, "a"), input(inputs, "b")];
    return { y: filled(a.shape, (index) => at(a, index) + at(b, index % b.data.length)) };
  },
  cases: [
    { name: "a row over a batch", attributes: {}, inputs: { a: { shape: [2, 3, 5] }, b: { shape: [5] } } },
    { name: "a matrix over a batch", attributes: {}, inputs: { a: { shape: [4, 3, 7] }, b: { shape: [3, 7] } } },
    { name: "one element", attributes: {}, inputs: { a: { shape: [1] }, b: { shape: [1] } } },
    {
      name: "rows that can be split over bindings",
      attributes: {},
      inputs: { a: { shape: [16, 4, 32] }, b: { shape: [4, 32] } },
    },
    {
      name: "positions of BERT-base, 8 x 128 tokens",
      attributes: {},
      inputs: { a: { shape: [8, 128, 768] }, b: { shape: [128, 768] } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "b does not match the last axes of a",
      attributes: {},
      inputs: { a: { shape: [2, 3], dtype: "f32" }, b: { shape: [2], dtype: "f32" } },
      message: /b \[2\] does not broadcast to a \[2, 3\]/,
    },
  ],
};
