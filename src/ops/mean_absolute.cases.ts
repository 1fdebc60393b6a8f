import type { TestsOf } from "../op/declaration";
import { input } from "./shared/reference";
import type { meanAbsolute } from "./mean_absolute";

export const meanAbsoluteTests: TestsOf<typeof meanAbsolute> = {
  reference(inputs) {
    const x = input(inputs, "x");
    const sum = x.data.reduce((total, v) => total + Math.abs(v), 0);
    return { y: { shape: [1], data: Float64Array.of(sum / x.data.length) } };
  },
  cases: [
    { name: "odd size", attributes: {}, inputs: { x: { shape: [7], offset: 3 } } },
    { name: "both signs", attributes: {}, inputs: { x: { shape: [4], values: [-2, 1.5, -0.5, 3] } } },
    { name: "more elements than a workgroup", attributes: {}, inputs: { x: { shape: [9, 11], offset: -5 } } },
    { name: "gates of rank 64", attributes: {}, inputs: { x: { shape: [64] } }, bench: true },
  ],
  malformed: [],
};
