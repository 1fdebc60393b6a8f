import kernel from "../../kernels/reduce.wgsl";
import { elements } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext } from "../op/declaration";
import type { Launch } from "../op/launch";
import { checkAxes, keptShape, reducedShape } from "./shared/axes";
import type { AxesAttributes } from "./shared/axes";
import { reducingAxes } from "./shared/broadcast";
import { fillLaunches } from "./shared/fill";
import { stridedLaunches } from "./shared/strided";

const iteration = (context: InferContext<AxesAttributes>) => {
  const { shape } = context.spec("x");
  return reducingAxes(shape, keptShape(shape, context.attributes), [shape]);
};

function gradientLaunches(context: LaunchContext<AxesAttributes>): Launch[] {
  const count = elements(context.spec("x").shape);
  const scattered = stridedLaunches(
    {
      kernel,
      entry: "grad_x",
      ...iteration(context),
      isScalar: true,
      sharesSums: false,
      operands: [{ variable: "dx", slot: "dx", count }],
      targets: { index: "index", dy: "dy" },
    },
    context.limits,
  );
  return [...(context.accumulate ? [] : fillLaunches("dx", count, 0, context.limits)), ...scattered];
}

/**
 * Maxima over axes, and where they are. x [...], y [x without the axes, or with 1 in their places], index i32 [as y]: the first
 * place of the maximum among the elements of the axes, in row-major order; all of the gradient goes there.
 */
export const max = defineOp({
  name: "max",
  inputs: { x: { gradient: true } },
  outputs: ["y", "index"],
  infer(context: InferContext<AxesAttributes>) {
    const { shape } = context.spec("x");
    checkAxes("max", shape, context.attributes);
    const reduced = reducedShape(shape, context.attributes);
    return { y: { shape: reduced, dtype: "f32" }, index: { shape: reduced, dtype: "i32" } };
  },
  forward: (context) =>
    stridedLaunches(
      {
        kernel,
        entry: "maximum",
        ...iteration(context),
        isScalar: true,
        operands: [{ variable: "x", slot: "x", count: elements(context.spec("x").shape) }],
        targets: { largest: "y", index: "index" },
      },
      context.limits,
    ),
  gradients: [
    {
      wrt: ["x"],
      reads: () => ["index"],
      accumulates: true,
      launches: gradientLaunches,
      flops: (context) => elements(context.spec("y").shape),
    },
  ],
  flops: (context) => elements(context.spec("x").shape),
});
