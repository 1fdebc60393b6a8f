import type { TestsOf } from "../op/declaration";
import { broadcastReference } from "./shared/broadcast.cases";
import { input } from "./shared/reference";
import type { broadcastTo } from "./broadcast_to";

export const broadcastToTests: TestsOf<typeof broadcastTo> = {
  reference: (inputs, { shape }) => ({ y: broadcastReference(input(inputs, "x"), shape) }),
  cases: [
    { name: "two axes", attributes: { shape: [2, 3, 5] }, inputs: { x: { shape: [3, 1] } } },
    { name: "a scalar", attributes: { shape: [7] }, inputs: { x: { shape: [] } } },
    { name: "one element", attributes: { shape: [1] }, inputs: { x: { shape: [1] } } },
    { name: "that can be split over bindings", attributes: { shape: [41, 136] }, inputs: { x: { shape: [136] } } },
  ],
  malformed: [
    {
      name: "a shape that is smaller",
      attributes: { shape: [1, 3] },
      inputs: { x: { shape: [2, 3], dtype: "f32" } },
      message: /x \[2, 3\] is larger than \[1, 3\]/,
    },
    {
      name: "a shape that differs",
      attributes: { shape: [2, 4] },
      inputs: { x: { shape: [2, 3], dtype: "f32" } },
      message: /x \[2, 3\] and shape \[2, 4\] do not broadcast/,
    },
  ],
};
