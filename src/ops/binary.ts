import kernel from "../../kernels/broadcast.wgsl";
import { elements } from "../base/shape";
import type { Shape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext, OpCase } from "../op/declaration";
import type { Launch } from "../op/launch";
import { broadcastAxes, broadcastReference, broadcastShape, reducingAxes } from "./shared/broadcast";
import { at, filled, input } from "./shared/reference";
import { stridedLaunches } from "./shared/strided";
import { sumLaunches } from "./shared/sum";

/** Functions of two numbers. An index into this list is the kernel's `KIND`. */
export const BINARY_KINDS = ["add", "sub", "mul", "div", "pow", "maximum", "minimum"] as const;

export type BinaryAttributes = {
  readonly kind: (typeof BINARY_KINDS)[number];
};

type Kind = BinaryAttributes["kind"];
type Slot = "a" | "b";
type Context = LaunchContext<BinaryAttributes>;

/** Operands of which the slope with respect to one of them is made. */
const READS: Readonly<Record<Kind, Readonly<Record<Slot, readonly Slot[]>>>> = {
  add: { a: [], b: [] },
  sub: { a: [], b: [] },
  mul: { a: ["b"], b: ["a"] },
  div: { a: ["b"], b: ["a", "b"] },
  pow: { a: ["a", "b"], b: ["a", "b"] },
  maximum: { a: ["a", "b"], b: ["a", "b"] },
  minimum: { a: ["a", "b"], b: ["a", "b"] },
};

const shapesOf = (context: InferContext<BinaryAttributes>): { a: Shape; b: Shape; y: Shape } => {
  const shapes = { a: context.spec("a").shape, b: context.spec("b").shape };
  return { ...shapes, y: broadcastShape(context.attributes.kind, shapes) };
};

function forwardLaunches(context: Context): Launch[] {
  const { a, b, y } = shapesOf(context);
  return stridedLaunches(
    {
      kernel,
      entry: context.inPlace ? "forward_in_place" : "forward",
      axes: broadcastAxes(y, [a, b]),
      // In place, a is read as y.
      operands: [context.inPlace ? undefined : operand("a", a), operand("b", b)],
      constants: { KIND: BINARY_KINDS.indexOf(context.attributes.kind) },
      targets: { y: "y" },
    },
    context.limits,
  );
}

const operand = (slot: Slot, shape: Shape) => ({ variable: slot, slot, count: elements(shape) });

function gradientLaunches(context: Context, wrt: Slot): Launch[] {
  const { kind } = context.attributes;
  const { y, ...shapes } = shapesOf(context);
  const target = `d${wrt}`;
  const [first, second] = READS[kind][wrt];
  if (first === undefined) {
    const factor = kind === "sub" && wrt === "b" ? -1 : 1;
    return sumLaunches({ source: "dy", shape: y, target, targetShape: shapes[wrt], factor }, context);
  }
  const gradient = { variable: "dy", slot: "dy", count: elements(y) };
  // A slope that is made of one operand has it as b.
  const read =
    second === undefined
      ? { entry: "grad_by_other", operands: [undefined, { ...operand(first, shapes[first]), variable: "b" }, gradient] }
      : { entry: "grad_by_both", operands: [operand("a", shapes.a), operand("b", shapes.b), gradient] };
  const [a, b] = second === undefined ? [y, shapes[first]] : [shapes.a, shapes.b];
  return stridedLaunches(
    {
      kernel,
      ...read,
      ...reducingAxes(y, shapes[wrt], [a, b, y]),
      constants: { KIND: BINARY_KINDS.indexOf(kind), WRT: wrt === "a" ? 0 : 1 },
      targets: { target_: target },
      accumulate: context.accumulate,
    },
    context.limits,
  );
}

const flops = (context: InferContext<BinaryAttributes>): number => elements(shapesOf(context).y);

const REFERENCES: Readonly<Record<Kind, (a: number, b: number) => number>> = {
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

/**
 * y = f(a, b), elementwise, of operands that are repeated as in NumPy. a, b [...], y [shape of both]. A negative number has whole
 * powers only, and no gradient with respect to the exponent.
 */
export const binary = defineOp<BinaryAttributes>({
  name: "binary",
  inputs: { a: { gradient: true }, b: { gradient: true } },
  outputs: ["y"],
  infer: (context) => ({ y: { shape: shapesOf(context).y, dtype: "f32" } }),
  forward: forwardLaunches,
  overwrites: "a",
  gradients: (["a", "b"] as const).map((wrt) => ({
    wrt: [wrt],
    reads: ({ kind }) => READS[kind][wrt],
    accumulates: true,
    launches: (context) => gradientLaunches(context, wrt),
    flops: (context) => 2 * flops(context),
  })),
  flops,
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
});
