import type { TestsOf } from "../op/declaration";
import { at, filled, input } from "./shared/reference";
import type { scale } from "./scale";

export const scaleTests: TestsOf<typeof scale> = {
  reference(inputs, { factor }) {
    const x = input(inputs, "x");
    return { y: filled(x.shape, (index) => factor * at(x, index)) };
  },
  cases: [
    { name: "odd size", attributes: { factor: -0.3 }, inputs: { x: { shape: [3, 5] } } },
    { name: "one element", attributes: { factor: 2 }, inputs: { x: { shape: [1] } } },
    { name: "elements that can be split over bindings", attributes: { factor: 3 }, inputs: { x: { shape: [41, 50] } } },
    {
      name: "hidden states of BERT-base, 512 tokens",
      attributes: { factor: 0.5 },
      inputs: { x: { shape: [512, 768] } },
      bench: true,
    },
  ],
  malformed: [],
};
