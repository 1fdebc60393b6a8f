import kernel from "../../kernels/swap_axes.wgsl";
import { ShapeError } from "../base/errors";
import { formatShape } from "../base/shape";
import type { Shape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext, NoAttributes } from "../op/declaration";
import type { Launch } from "../op/launch";
import { accumulateParam, elementwiseLaunches } from "./shared/elementwise";

type Context = LaunchContext<NoAttributes>;

/** Matrices, rows and columns of x [b, m, n] or [m, n]. */
export function sizes(shape: Shape): readonly [number, number, number] {
  const [first = 0, second = 0, third = 0] = shape;
  return shape.length === 2 ? [1, first, second] : [first, second, third];
}

function launches(
  entry: string,
  tensors: readonly string[],
  rows: number,
  columns: number,
  context: Context,
): Launch[] {
  const count = sizes(context.spec("x").shape)[0] * rows * columns;
  const params = (): Record<string, number> => ({ rows, columns, ...accumulateParam(context) });
  // Vectors need rows of whole vectors on both sides.
  const period = rows % 4 === 0 ? columns : rows;
  return elementwiseLaunches(
    { kernel, entry, tensors, count, columns: rows * columns, period, params },
    context.limits,
  ).map((launch) => ({ ...launch, workgroups: Math.ceil(launch.workgroups / (launch.constants?.["WIDTH"] ?? 1)) }));
}

/** The transpose of each matrix. x [b, m, n] or [m, n], y [b, n, m] or [n, m]. */
export const swapAxes = defineOp({
  name: "swap_axes",
  inputs: { x: { gradient: true } },
  outputs: ["y"],
  infer(context: InferContext<NoAttributes>) {
    const { shape } = context.spec("x");
    const [b, m, n] = sizes(shape);
    if (shape.length !== 2 && shape.length !== 3) {
      throw new ShapeError(`swap_axes: x ${formatShape(shape)} is not a matrix.`, "Pass x [m, n] or [b, m, n].");
    }
    return { y: { shape: shape.length === 2 ? [n, m] : [b, n, m], dtype: "f32" } };
  },
  forward(context) {
    const [, m, n] = sizes(context.spec("x").shape);
    return launches("forward", ["x", "y"], n, m, context);
  },
  gradients: [
    {
      wrt: ["x"],
      reads: () => [],
      accumulates: true,
      launches: (context) => {
        const [, m, n] = sizes(context.spec("x").shape);
        return launches("grad_x", ["dy", "dx"], m, n, context);
      },
    },
  ],
  flops: () => 0,
});
