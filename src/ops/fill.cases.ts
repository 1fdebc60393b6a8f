import type { TestsOf } from "../op/declaration";
import { filled } from "./shared/reference";
import type { fill } from "./fill";

export const fillTests: TestsOf<typeof fill> = {
  reference: (_, { shape, value }) => ({ y: filled(shape, () => value) }),
  cases: [
    { name: "odd size", attributes: { shape: [3, 5], value: -0.5 }, inputs: {} },
    { name: "a scalar", attributes: { shape: [], value: 3 }, inputs: {} },
    { name: "elements that can be split over bindings", attributes: { shape: [41, 136], value: 2 }, inputs: {} },
  ],
  malformed: [
    { name: "an axis of 0", attributes: { shape: [2, 0], value: 1 }, inputs: {}, message: /\[2, 0\] is no shape/ },
    { name: "infinity", attributes: { shape: [2], value: Infinity }, inputs: {}, message: /Infinity is not finite/ },
  ],
};
