import type { TestsOf } from "../op/declaration";
import { at, input } from "./shared/reference";
import type { identityDistance } from "./identity_distance";

export const identityDistanceTests: TestsOf<typeof identityDistance> = {
  reference(inputs) {
    const x = input(inputs, "x");
    const size = x.shape[0]!;
    const squares = x.data.reduce(
      (sum, _, i) => sum + (at(x, i) - (Math.floor(i / size) === i % size ? 1 : 0)) ** 2,
      0,
    );
    return { y: { shape: [1], data: Float64Array.of(Math.sqrt(squares)) } };
  },
  cases: [
    { name: "odd size", attributes: {}, inputs: { x: { shape: [5, 5] } } },
    { name: "more elements than a workgroup", attributes: {}, inputs: { x: { shape: [12, 12] } } },
    { name: "one element", attributes: {}, inputs: { x: { shape: [1, 1] } } },
    { name: "rank 64", attributes: {}, inputs: { x: { shape: [64, 64] } }, bench: true },
  ],
  malformed: [
    {
      name: "not square",
      attributes: {},
      inputs: { x: { shape: [2, 3], dtype: "f32" } },
      message: /x \[2, 3\] is not square/,
    },
  ],
};
