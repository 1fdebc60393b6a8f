import kernel from "../../kernels/mul.wgsl";
import { ShapeError } from "../base/errors";
import { elements, formatShape, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext, NoAttributes } from "../op/declaration";
import type { Launch } from "../op/launch";
import { accumulateParam, elementwiseLaunches } from "./shared/elementwise";

function launches(entry: string, tensors: readonly string[], context: LaunchContext<NoAttributes>): Launch[] {
  const count = elements(context.spec("a").shape);
  return elementwiseLaunches({ kernel, entry, tensors, count, params: () => accumulateParam(context) }, context.limits);
}

/** y = a b, elementwise. a, b, y [...] of one shape. */
export const mul = defineOp({
  name: "mul",
  inputs: { a: { gradient: true }, b: { gradient: true } },
  outputs: ["y"],
  infer(context: InferContext<NoAttributes>) {
    const [a, b] = [context.spec("a").shape, context.spec("b").shape];
    if (!sameShape(a, b)) {
      throw new ShapeError(
        `mul: a ${formatShape(a)} and b ${formatShape(b)} differ.`,
        "Pass tensors of the same shape; scale_columns multiplies every row of a by one row b.",
      );
    }
    return { y: { shape: a, dtype: "f32" } };
  },
  forward: (context) =>
    context.inPlace ? launches("forward_in_place", ["b", "y"], context) : launches("forward", ["a", "b", "y"], context),
  overwrites: "a",
  gradients: [
    {
      wrt: ["a"],
      reads: () => ["b"],
      accumulates: true,
      overwrites: "dy",
      launches: (context) =>
        context.inPlace
          ? launches("grad_a_in_place", ["b", "da"], context)
          : launches("grad_a", ["b", "dy", "da"], context),
      flops: (context) => elements(context.spec("a").shape),
    },
    {
      wrt: ["b"],
      reads: () => ["a"],
      accumulates: true,
      overwrites: "dy",
      launches: (context) =>
        context.inPlace
          ? launches("grad_b_in_place", ["a", "db"], context)
          : launches("grad_b", ["a", "dy", "db"], context),
      flops: (context) => elements(context.spec("a").shape),
    },
  ],
  flops: (context) => elements(context.spec("a").shape),
});
