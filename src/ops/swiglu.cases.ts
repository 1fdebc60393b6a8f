import type { TestsOf } from "../op/declaration";
import type { swiglu } from "./swiglu";
import { gated, malformedGate } from "./shared/gated.cases";

export const swigluTests: TestsOf<typeof swiglu> = {
  reference: gated((v) => v / (1 + Math.exp(-v))),
  cases: [
    { name: "odd size", attributes: {}, inputs: { gate: { shape: [2, 3, 5], scale: 2 }, up: { shape: [2, 3, 5] } } },
    {
      name: "far tails and near zero",
      attributes: {},
      inputs: { gate: { shape: [7], values: [-200, -20, -1e-4, 0, 1e-4, 20, 200] }, up: { shape: [7] } },
    },
    { name: "one element", attributes: {}, inputs: { gate: { shape: [1] }, up: { shape: [1] } } },
    {
      name: "elements that can be split over bindings",
      attributes: {},
      inputs: { gate: { shape: [37, 50] }, up: { shape: [37, 50] } },
    },
    {
      name: "LLaMA-2 7B, 128 tokens",
      attributes: {},
      inputs: { gate: { shape: [128, 11008] }, up: { shape: [128, 11008] } },
      bench: true,
    },
  ],
  malformed: malformedGate({}),
};
