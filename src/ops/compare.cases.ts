import type { OpCase, TestsOf } from "../op/declaration";
import { broadcastShape } from "./shared/broadcast";
import { broadcastReference } from "./shared/broadcast.cases";
import { at, filled, input } from "./shared/reference";
import { KINDS } from "./compare";
import type { CompareAttributes, compare } from "./compare";

const REFERENCES: Readonly<Record<CompareAttributes["kind"], (a: number, b: number) => boolean>> = {
  greater: (a, b) => a > b,
  greater_equal: (a, b) => a >= b,
  less: (a, b) => a < b,
  less_equal: (a, b) => a <= b,
  equal: (a, b) => a === b,
  not_equal: (a, b) => a !== b,
};

export const compareTests: TestsOf<typeof compare> = {
  reference(inputs, { kind }) {
    const [a, b] = [input(inputs, "a"), input(inputs, "b")];
    const shape = broadcastShape(kind, { a: a.shape, b: b.shape });
    const [left, right] = [broadcastReference(a, shape), broadcastReference(b, shape)];
    return { y: filled(shape, (i) => Number(REFERENCES[kind](at(left, i), at(right, i)))) };
  },
  cases: [
    ...KINDS.map((kind): OpCase<CompareAttributes> => ({
      name: `${kind}, repeated, with ties`,
      attributes: { kind },
      inputs: { a: { shape: [3, 1], values: [1, 2, 3] }, b: { shape: [3], values: [1, 2, 3] } },
    })),
    { name: "one element", attributes: { kind: "less" }, inputs: { a: { shape: [1] }, b: { shape: [1] } } },
    {
      name: "elements that can be split over bindings",
      attributes: { kind: "greater" },
      inputs: { a: { shape: [41, 136] }, b: { shape: [136] } },
    },
  ],
  malformed: [
    {
      name: "sizes that differ",
      attributes: { kind: "equal" },
      inputs: { a: { shape: [2], dtype: "f32" }, b: { shape: [3], dtype: "f32" } },
      message: /equal: a \[2\] and b \[3\] do not broadcast/,
    },
  ],
};
