import kernel from "../../kernels/broadcast.wgsl";
import { elements } from "../base/shape";
import type { Shape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext, NoAttributes } from "../op/declaration";
import type { Launch } from "../op/launch";
import { broadcastAxes, broadcastReference, broadcastShape, reducingAxes } from "./shared/broadcast";
import { at, filled, input } from "./shared/reference";
import { stridedLaunches } from "./shared/strided";

type Shapes = Readonly<Record<"condition" | "a" | "b" | "y", Shape>>;

function shapesOf(context: InferContext<NoAttributes>): Shapes {
  const shapes = {
    condition: context.spec("condition").shape,
    a: context.spec("a").shape,
    b: context.spec("b").shape,
  };
  return { ...shapes, y: broadcastShape("where", shapes) };
}

const operand = (slot: string, shape: Shape) => ({ variable: slot, slot, count: elements(shape) });

function gradientLaunches(context: LaunchContext<NoAttributes>, wrt: "a" | "b"): Launch[] {
  const { condition, y, ...shapes } = shapesOf(context);
  return stridedLaunches(
    {
      kernel,
      entry: "grad_by_condition",
      ...reducingAxes(y, shapes[wrt], [condition, y, y]),
      operands: [operand("condition", condition), undefined, operand("dy", y)],
      constants: { WRT: wrt === "a" ? 0 : 1 },
      targets: { target_: `d${wrt}` },
      accumulate: context.accumulate,
    },
    context.limits,
  );
}

/** y = a where condition is not 0, else b, all repeated as in NumPy. condition i32, a, b [...], y [shape of all]. */
export const where = defineOp<NoAttributes>({
  name: "where",
  inputs: { condition: { dtype: "i32" }, a: { gradient: true }, b: { gradient: true } },
  outputs: ["y"],
  infer: (context) => ({ y: { shape: shapesOf(context).y, dtype: "f32" } }),
  forward(context) {
    const { condition, a, b, y } = shapesOf(context);
    return stridedLaunches(
      {
        kernel,
        entry: "choose",
        axes: broadcastAxes(y, [a, b, condition]),
        operands: [operand("a", a), operand("b", b), operand("condition", condition)],
        targets: { y: "y" },
      },
      context.limits,
    );
  },
  gradients: (["a", "b"] as const).map((wrt) => ({
    wrt: [wrt],
    reads: () => ["condition"],
    accumulates: true,
    launches: (context) => gradientLaunches(context, wrt),
    flops: (context) => elements(shapesOf(context).y),
  })),
  flops: () => 0,
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
});
