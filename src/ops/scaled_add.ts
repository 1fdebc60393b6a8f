import kernel from "../../kernels/scaled_add.wgsl";
import { ShapeError } from "../base/errors";
import { elements, formatShape, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext } from "../op/declaration";
import type { Launch } from "../op/launch";
import { accumulateParam, elementwiseLaunches } from "./shared/elementwise";

export type ScaledAddAttributes = {
  /** Not 0, so that a follows from y and b. */
  readonly factor: number;
};

function launches(entry: string, tensors: readonly string[], context: LaunchContext<ScaledAddAttributes>): Launch[] {
  const count = elements(context.spec("a").shape);
  const params = (): Record<string, number> => ({ factor: context.attributes.factor, ...accumulateParam(context) });
  return elementwiseLaunches({ kernel, entry, tensors, count, params }, context.limits);
}

/** y = factor a + b, elementwise. a, b, y [...] of one shape. Its inverse gives a = (y - b) / factor. */
export const scaledAdd = defineOp({
  name: "scaled_add",
  inputs: { a: { gradient: true }, b: { gradient: true } },
  outputs: ["y"],
  infer(context: InferContext<ScaledAddAttributes>) {
    const [a, b] = [context.spec("a").shape, context.spec("b").shape];
    if (!sameShape(a, b)) {
      throw new ShapeError(
        `scaled_add: a ${formatShape(a)} and b ${formatShape(b)} differ.`,
        "Pass tensors of the same shape.",
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
      reads: () => [],
      accumulates: true,
      launches: (context) => launches("grad_a", ["dy", "da"], context),
      flops: (context) => elements(context.spec("a").shape),
    },
    { wrt: ["b"], reads: () => [], passesThrough: true },
  ],
  inverse: {
    of: "a",
    launches: (context) =>
      (context.inPlace
        ? launches("inverse_in_place", ["b", "a"], context)
        : launches("inverse", ["y", "b", "a"], context)
      ).map(({ bindings: { a, ...others }, ...launch }) => ({ ...launch, bindings: { ...others, x: a! } })),
  },
  flops: (context) => 2 * elements(context.spec("a").shape),
});
