import type { TestsOf } from "../op/declaration";
import type { tanh } from "./tanh";
import { elementwise } from "./shared/unary.cases";

export const tanhTests: TestsOf<typeof tanh> = {
  reference: elementwise(Math.tanh),
  cases: [
    { name: "odd size", attributes: {}, inputs: { x: { shape: [3, 5], scale: 2 } } },
    {
      name: "far tails and near zero",
      attributes: {},
      inputs: { x: { shape: [9], values: [-200, -20, -0.61, -1e-4, 0, 1e-4, 0.59, 20, 200] } },
    },
    { name: "one element", attributes: {}, inputs: { x: { shape: [1] } } },
    { name: "elements that can be split over bindings", attributes: {}, inputs: { x: { shape: [41, 50] } } },
    { name: "pooled BERT-large, 512 rows", attributes: {}, inputs: { x: { shape: [512, 1024] } }, bench: true },
  ],
  malformed: [],
};
