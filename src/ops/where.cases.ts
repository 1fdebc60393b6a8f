import type { TestsOf } from "../op/declaration";
import { broadcastShape } from "./shared/broadcast";
import { broadcastReference } from "./shared/broadcast.cases";
import { at, filled, input } from "./shared/reference";
import type { where } from "./where";

export const whereTests: TestsOf<typeof where> = {
  reference(inputs) {
    const tensors = { condition: input(inputs, "condition"), a: input(inputs, "a"), b: input(inputs, "b") };
    const shape = broadcastShape("where", {
      condition: tensors.condition.shape,
      a: tensors.a.shape,
      b: tensors.b.shape,
    });
    const [condition, a, b] = [tensors.condition, tensors.a, tensors.b].map((each) => broadcastReference(each, shape));
    return { y: filled(shape, (i) => at(at(condition!, i) === 0 ? b! : a!, i)) };
  },
  cases: [
    {
      name: "all repeated",
      attributes: {},
      inputs: { condition: { shape: [3, 1], values: [1, 0, 2] }, a: { shape: [2, 1, 5] }, b: { shape: [1] } },
    },
    {
      name: "of one shape, vectors of four",
      attributes: {},
      inputs: { condition: { shape: [3, 8], below: 2 }, a: { shape: [3, 8] }, b: { shape: [3, 8] } },
    },
    {
      name: "a sum of many",
      attributes: {},
      inputs: { condition: { shape: [7, 9], below: 2 }, a: { shape: [1] }, b: { shape: [9] } },
    },
    {
      name: "one element",
      attributes: {},
      inputs: { condition: { shape: [1], values: [0] }, a: { shape: [1] }, b: { shape: [1] } },
    },
    {
      name: "elements that can be split over bindings",
      attributes: {},
      inputs: { condition: { shape: [41, 136], below: 2 }, a: { shape: [41, 136] }, b: { shape: [136] } },
    },
  ],
  malformed: [
    {
      name: "sizes that differ",
      attributes: {},
      inputs: {
        condition: { shape: [2], dtype: "i32" },
        a: { shape: [3], dtype: "f32" },
        b: { shape: [1], dtype: "f32" },
      },
      message: /where: condition \[2\], a \[3\] and b \[1\] do not broadcast/,
    },
    {
      name: "a condition that is not i32",
      attributes: {},
      inputs: {
        condition: { shape: [2], dtype: "f32" },
        a: { shape: [2], dtype: "f32" },
        b: { shape: [2], dtype: "f32" },
      },
      message: /condition is f32 \[2\]/,
    },
  ],
};
