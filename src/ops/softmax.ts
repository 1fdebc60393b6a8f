import kernel from "../../kernels/softmax.wgsl";
import { ShapeError } from "../base/errors";
import { columns, elements, rows } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext } from "../op/declaration";
import { bindRows, rowRanges } from "../op/launch";
import type { Launch } from "../op/launch";
import { accumulateParam } from "./shared/elementwise";

export type SoftmaxAttributes = {
  /** Whether the output is the logarithm of the softmax. */
  readonly logarithm: boolean;
};

function launches(entry: string, tensors: readonly string[], context: LaunchContext<SoftmaxAttributes>): Launch[] {
  const { shape } = context.spec("x");
  const width = columns(shape);
  return rowRanges(rows(shape), [width * 4], context.limits).map((range) => ({
    kernel,
    entry,
    constants: { LOGARITHM: context.attributes.logarithm ? 1 : 0 },
    bindings: Object.fromEntries(tensors.map((slot) => [slot, bindRows(slot, range, width * 4)])),
    params: { rows: range.count, columns: width, ...accumulateParam(context) },
    workgroups: range.count,
  }));
}

/** Softmax over the last axis, or its logarithm. x [..., n], y [..., n]. */
export const softmax = defineOp({
  name: "softmax",
  inputs: { x: { gradient: true } },
  outputs: ["y"],
  infer(context: InferContext<SoftmaxAttributes>) {
    const { shape } = context.spec("x");
    if (shape.length === 0) {
      throw new ShapeError("softmax: x [] has no axis.", "Pass x with at least one axis; the last one is normalised.");
    }
    return { y: { shape, dtype: "f32" } };
  },
  forward: (context) =>
    context.inPlace ? launches("forward_in_place", ["y"], context) : launches("forward", ["x", "y"], context),
  overwrites: "x",
  gradients: [
    {
      wrt: ["x"],
      reads: () => ["y"],
      accumulates: true,
      overwrites: "dy",
      launches: (context) =>
        context.inPlace
          ? launches("grad_x_in_place", ["y", "dx"], context)
          : launches("grad_x", ["y", "dy", "dx"], context),
      flops: (context) => 4 * elements(context.spec("x").shape),
    },
  ],
  flops: (context) => 5 * elements(context.spec("x").shape),
});
