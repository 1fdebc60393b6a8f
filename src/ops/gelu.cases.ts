import type { TestsOf } from "../op/declaration";
import { normalDistribution } from "./shared/normal";
import { at, filled, input } from "./shared/reference";
import type { gelu, GeluAttributes } from "./gelu";

/** GELU of a number in float64. */
export function geluReference(v: number, { approximation }: GeluAttributes): number {
  if (approximation === "none") return v * normalDistribution(v);
  return 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3)));
}

export const geluTests: TestsOf<typeof gelu> = {
  reference(inputs, attributes) {
    const x = input(inputs, "x");
    return { y: filled(x.shape, (index) => geluReference(at(x, index), attributes)) };
  },
  cases: [
    { name: "exact, odd size", attributes: { approximation: "none" }, inputs: { x: { shape: [3, 7], scale: 2 } } },
    { name: "tanh, odd size", attributes: { approximation: "tanh" }, inputs: { x: { shape: [3, 7], scale: 2 } } },
    {
      name: "exact, far tails",
      attributes: { approximation: "none" },
      inputs: { x: { shape: [8], values: [-100, -14, -6, -1e-6, 0, 1e-6, 14, 100] } },
    },
    {
      name: "tanh, far tails",
      attributes: { approximation: "tanh" },
      inputs: { x: { shape: [8], values: [-100, -14, -6, -1e-6, 0, 1e-6, 14, 100] } },
    },
    { name: "one element", attributes: { approximation: "none" }, inputs: { x: { shape: [1] } } },
    {
      name: "elements that can be split over bindings",
      attributes: { approximation: "none" },
      inputs: { x: { shape: [37, 50], scale: 3 } },
    },
    {
      name: "tanh, elements that can be split over bindings",
      attributes: { approximation: "tanh" },
      inputs: { x: { shape: [37, 50], scale: 3 } },
    },
    {
      name: "BERT-base feed-forward, 512 tokens",
      attributes: { approximation: "none" },
      inputs: { x: { shape: [512, 3072] } },
      bench: true,
    },
    {
      name: "GPT-2 feed-forward, 512 tokens",
      attributes: { approximation: "tanh" },
      inputs: { x: { shape: [512, 3072] } },
      bench: true,
    },
  ],
  malformed: [],
};
