import type { TestsOf } from "../op/declaration";
import type { silu } from "./silu";
import { elementwise } from "./shared/unary.cases";

export const siluTests: TestsOf<typeof silu> = {
  reference: elementwise((x) => x / (1 + Math.exp(-x))),
  cases: [
    { name: "odd size", attributes: {}, inputs: { x: { shape: [3, 5], scale: 2 } } },
    {
      name: "far tails and near zero",
      attributes: {},
      inputs: { x: { shape: [9], values: [-200, -20, -1.3, -1e-4, 0, 1e-4, 1.3, 20, 200] } },
    },
    { name: "one element", attributes: {}, inputs: { x: { shape: [1] } } },
    { name: "elements that can be split over bindings", attributes: {}, inputs: { x: { shape: [41, 50] } } },
    { name: "gate of LLaMA-2 7B, 128 tokens", attributes: {}, inputs: { x: { shape: [128, 11008] } }, bench: true },
  ],
  malformed: [],
};
