import type { TestsOf } from "../op/declaration";
import { at, filled, input } from "./shared/reference";
import type { softThreshold } from "./soft_threshold";

export const softThresholdTests: TestsOf<typeof softThreshold> = {
  reference(inputs, { bound }) {
    const p = input(inputs, "p");
    const isFinite = ["total", "loss"].every((slot) => Number.isFinite(at(input(inputs, slot), 0)));
    const shrunk = (v: number): number => Math.sign(v) * Math.max(Math.abs(v) - bound, 0);
    return { p: filled(p.shape, (i) => (isFinite ? shrunk(at(p, i)) : at(p, i))) };
  },
  cases: [
    {
      name: "both sides of the bound",
      attributes: { bound: 0.5 },
      inputs: {
        p: { shape: [6], values: [-2, -0.4, 0, 0.4, 0.6, 3] },
        total: { shape: [1], values: [1] },
        loss: { shape: [1], values: [2] },
      },
    },
    {
      name: "a loss that is not a number",
      attributes: { bound: 0.5 },
      inputs: { p: { shape: [3] }, total: { shape: [1], values: [1] }, loss: { shape: [1], values: [NaN] } },
    },
    {
      name: "elements that can be split over bindings",
      attributes: { bound: 0.1 },
      inputs: { p: { shape: [37, 50] }, total: { shape: [1], values: [1] }, loss: { shape: [1], values: [1] } },
    },
    {
      name: "gates of rank 64",
      attributes: { bound: 0.1 },
      inputs: { p: { shape: [64] }, total: { shape: [1], values: [1] }, loss: { shape: [1], values: [1] } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "two totals",
      attributes: { bound: 0.1 },
      inputs: {
        p: { shape: [2], dtype: "f32" },
        total: { shape: [2], dtype: "f32" },
        loss: { shape: [1], dtype: "f32" },
      },
      message: /total is \[2\]/,
    },
  ],
};
