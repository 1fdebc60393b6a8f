import type { TestsOf } from "../op/declaration";
import { input } from "./shared/reference";
import type { reshape } from "./reshape";

export const reshapeTests: TestsOf<typeof reshape> = {
  reference: (inputs, { shape }) => ({ y: { shape, data: input(inputs, "x").data } }),
  cases: [
    { name: "odd sizes", attributes: { shape: [5, 6] }, inputs: { x: { shape: [2, 3, 5] } } },
    { name: "to a scalar", attributes: { shape: [] }, inputs: { x: { shape: [1] } } },
    {
      name: "elements that can be split over bindings",
      attributes: { shape: [136, 41] },
      inputs: { x: { shape: [41, 136] } },
    },
  ],
  malformed: [
    {
      name: "another number of elements",
      attributes: { shape: [4] },
      inputs: { x: { shape: [2, 3], dtype: "f32" } },
      message: /x \[2, 3\] has 6 elements and cannot have the shape \[4\]/,
    },
  ],
};
