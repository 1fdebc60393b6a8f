import kernel from "../../kernels/broadcast.wgsl";
import { elements } from "../base/shape";
import type { Shape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext } from "../op/declaration";
import type { Launch } from "../op/launch";
import { broadcastAxes, broadcastShape, reducingAxes } from "./shared/broadcast";
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

/**
 * y = f(a, b), elementwise, of operands that are repeated as in NumPy. a, b [...], y [shape of both]. A negative number has whole
 * powers only, and no gradient with respect to the exponent.
 */
export const binary = defineOp({
  name: "binary",
  inputs: { a: { gradient: true }, b: { gradient: true } },
  outputs: ["y"],
  infer: (context: InferContext<BinaryAttributes>) => ({ y: { shape: shapesOf(context).y, dtype: "f32" } }),
  forward: forwardLaunches,
  overwrites: "a",
  gradients: (["a", "b"] as const).map((wrt) => ({
    wrt: [wrt],
    reads: ({ kind }: BinaryAttributes) => READS[kind][wrt],
    accumulates: true,
    launches: (context: Context) => gradientLaunches(context, wrt),
    flops: (context: InferContext<BinaryAttributes>) => 2 * flops(context),
  })),
  flops,
});
