import kernel from "../../kernels/broadcast.wgsl";
import { elements } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { OpCase } from "../op/declaration";
import { broadcastAxes, broadcastReference, broadcastShape } from "./shared/broadcast";
import { at, filled, input } from "./shared/reference";
import { stridedLaunches } from "./shared/strided";

/** Comparisons. An index into this list is the kernel's `KIND`. */
const KINDS = ["greater", "greater_equal", "less", "less_equal", "equal", "not_equal"] as const;

export type CompareAttributes = {
  readonly kind: (typeof KINDS)[number];
};

const REFERENCES: Readonly<Record<CompareAttributes["kind"], (a: number, b: number) => boolean>> = {
  greater: (a, b) => a > b,
  greater_equal: (a, b) => a >= b,
  less: (a, b) => a < b,
  less_equal: (a, b) => a <= b,
  equal: (a, b) => a === b,
  not_equal: (a, b) => a !== b,
};

/** 1 where a comparison holds, else 0, of operands that are repeated as in NumPy. a, b [...], y i32 [shape of both]. */
export const compare = defineOp<CompareAttributes>({
  name: "compare",
  inputs: { a: {}, b: {} },
  outputs: ["y"],
  infer: (context) => ({
    y: {
      shape: broadcastShape(context.attributes.kind, { a: context.spec("a").shape, b: context.spec("b").shape }),
      dtype: "i32",
    },
  }),
  forward(context) {
    const [a, b] = [context.spec("a").shape, context.spec("b").shape];
    return stridedLaunches(
      {
        kernel,
        entry: "compare",
        axes: broadcastAxes(context.spec("y").shape, [a, b]),
        operands: [
          { variable: "a", slot: "a", count: elements(a) },
          { variable: "b", slot: "b", count: elements(b) },
        ],
        constants: { KIND: KINDS.indexOf(context.attributes.kind) },
        targets: { flags: "y" },
      },
      context.limits,
    );
  },
  gradients: [],
  flops: (context) => elements(context.spec("a").shape),
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
});
