import type { OpCase, TestsOf } from "../op/declaration";
import { broadcastShape } from "./shared/broadcast";
import { broadcastReference } from "./shared/broadcast.cases";
import { at, filled, input } from "./shared/reference";
import { BINARY_KINDS } from "./binary";
import type { BinaryAttributes, binary } from "./binary";

const REFERENCES: Readonly<Record<BinaryAttributes["kind"], (a: number, b: number) => number>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  pow: (a, b) => a ** b,
  maximum: Math.max,
  minimum: Math.min,
};

/** Operands for which every function and its slopes are defined. */
const FAR_FROM_ZERO = { offset: 6 };

export const binaryTests: TestsOf<typeof binary> = {
  reference(inputs, { kind }) {
    const [a, b] = [input(inputs, "a"), input(inputs, "b")];
    const shape = broadcastShape(kind, { a: a.shape, b: b.shape });
    const [left, right] = [broadcastReference(a, shape), broadcastReference(b, shape)];
    return { y: filled(shape, (i) => REFERENCES[kind](at(left, i), at(right, i))) };
  },
  cases: [
    ...BINARY_KINDS.map((kind): OpCase<BinaryAttributes> => ({
      name: `${kind}, both repeated`,
      attributes: { kind },
      inputs: { a: { shape: [3, 1, 5], ...FAR_FROM_ZERO }, b: { shape: [4, 1], ...FAR_FROM_ZERO, scale: 0.5 } },
    })),
    ...(["sub", "mul", "pow"] as const).map((kind): OpCase<BinaryAttributes> => ({
      name: `${kind}, of one shape, vectors of four`,
      attributes: { kind },
      inputs: { a: { shape: [2, 3, 4], ...FAR_FROM_ZERO }, b: { shape: [2, 3, 4], ...FAR_FROM_ZERO, scale: 0.5 } },
    })),
    ...(["mul", "maximum", "sub"] as const).map((kind): OpCase<BinaryAttributes> => ({
      name: `${kind}, a scalar repeated 200 times`,
      attributes: { kind },
      inputs: { a: { shape: [10, 20], offset: 3 }, b: { shape: [1], offset: 3 } },
    })),
    {
      name: "a repeated over rows, six axes",
      attributes: { kind: "mul" },
      inputs: { a: { shape: [2, 1, 3, 1, 2, 1] }, b: { shape: [1, 2, 1, 3, 1, 2] } },
    },
    {
      name: "powers of zero, and of 0, 1 and -1",
      attributes: { kind: "pow" },
      inputs: { a: { shape: [5], values: [0, 0.5, 4, 2, 3] }, b: { shape: [5], values: [2, 3, 0, 1, -1] } },
    },
    {
      name: "a tie",
      attributes: { kind: "minimum" },
      inputs: { a: { shape: [3], values: [1, 2, 3] }, b: { shape: [3], values: [2, 2, 2] } },
    },
    { name: "one element", attributes: { kind: "sub" }, inputs: { a: { shape: [1] }, b: { shape: [1] } } },
    { name: "scalars", attributes: { kind: "mul" }, inputs: { a: { shape: [] }, b: { shape: [] } } },
    {
      name: "elements that can be split over bindings",
      attributes: { kind: "div" },
      inputs: { a: { shape: [41, 136] }, b: { shape: [41, 136], ...FAR_FROM_ZERO } },
    },
    {
      name: "repeated operands that can be split over bindings",
      attributes: { kind: "mul" },
      inputs: { a: { shape: [5300, 1] }, b: { shape: [2, 1, 2] } },
    },
  ],
  malformed: [
    {
      name: "sizes that differ",
      attributes: { kind: "sub" },
      inputs: { a: { shape: [2, 3], dtype: "f32" }, b: { shape: [2], dtype: "f32" } },
      message: /sub: a \[2, 3\] and b \[2\] do not broadcast/,
    },
    {
      name: "seven axes",
      attributes: { kind: "mul" },
      inputs: { a: { shape: [1, 2, 1, 2, 1, 2, 1], dtype: "f32" }, b: { shape: [2], dtype: "f32" } },
      message: /has 7 axes/,
    },
  ],
};
