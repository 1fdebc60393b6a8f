import kernel from "../../kernels/broadcast.wgsl";
import { elements } from "../base/shape";
import type { Shape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext, NoAttributes } from "../op/declaration";
import type { Launch } from "../op/launch";
import { broadcastAxes, broadcastShape, reducingAxes } from "./shared/broadcast";
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
export const where = defineOp({
  name: "where",
  inputs: { condition: { dtype: "i32" }, a: { gradient: true }, b: { gradient: true } },
  outputs: ["y"],
  infer: (context: InferContext<NoAttributes>) => ({ y: { shape: shapesOf(context).y, dtype: "f32" } }),
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
    launches: (context: LaunchContext<NoAttributes>) => gradientLaunches(context, wrt),
    flops: (context: InferContext<NoAttributes>) => elements(shapesOf(context).y),
  })),
  flops: () => 0,
});
