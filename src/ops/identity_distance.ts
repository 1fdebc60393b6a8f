import kernel from "../../kernels/identity_distance.wgsl";
import { ShapeError } from "../base/errors";
import { elements, formatShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext, NoAttributes } from "../op/declaration";
import { elementKernel, elementWorkgroups } from "../op/element";
import type { Launch } from "../op/launch";
import { accumulateParam } from "./shared/elementwise";

function launch(entry: "forward" | "grad_x", slots: readonly string[], context: LaunchContext<NoAttributes>): Launch {
  const { shape } = context.spec("x");
  const count = elements(shape);
  const element = elementKernel(kernel, [count]);
  return {
    ...element,
    entry,
    workgroups: entry === "forward" ? 1 : elementWorkgroups(count, element),
    bindings: Object.fromEntries(slots.map((slot) => [slot, slot])),
    params: { count, size: shape[0] ?? 0, ...accumulateParam(context) },
  };
}

/**
 * y = ||x - I|| in the Frobenius norm: for a Gram matrix x = P P^T, how far the rows of P are from orthonormal
 * (AdaLoRA, Zhang et al. 2023). x [r, r], y [1].
 */
export const identityDistance = defineOp({
  name: "identity_distance",
  inputs: { x: { gradient: true } },
  outputs: ["y"],
  infer(context: InferContext<NoAttributes>) {
    const { shape } = context.spec("x");
    if (shape.length !== 2 || shape[0] !== shape[1]) {
      throw new ShapeError(`identity_distance: x ${formatShape(shape)} is not square.`, "Pass a matrix [r, r].");
    }
    return { y: { shape: [1], dtype: "f32" } };
  },
  forward: (context) => [launch("forward", ["x", "y"], context)],
  gradients: [
    {
      wrt: ["x"],
      reads: () => ["x", "y"],
      accumulates: true,
      launches: (context) => [launch("grad_x", ["x", "y", "dy", "dx"], context)],
      flops: (context) => 3 * elements(context.spec("x").shape),
    },
  ],
  flops: (context) => 3 * elements(context.spec("x").shape),
});
