import kernel from "../../kernels/apply_mask.wgsl";
import { ShapeError } from "../base/errors";
import { elements, formatShape, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import { elementwiseLaunches } from "./shared/elementwise";

/**
 * x <- x mask, in place, for pruned tensors and their gradients. Where the mask is 0, x becomes 0 even if it is not
 * finite. x, mask [...] of one shape.
 */
export const applyMask = defineOp({
  name: "apply_mask",
  inputs: { x: { mutated: true }, mask: {} },
  outputs: [],
  infer(context) {
    const [x, mask] = [context.spec("x").shape, context.spec("mask").shape];
    if (!sameShape(x, mask)) {
      throw new ShapeError(
        `apply_mask: mask ${formatShape(mask)} differs from x ${formatShape(x)}.`,
        "Pass a mask with the shape of x.",
      );
    }
    return {};
  },
  forward: (context) =>
    elementwiseLaunches(
      { kernel, entry: "forward", tensors: ["x", "mask"], count: elements(context.spec("x").shape) },
      context.limits,
    ),
  gradients: [],
  flops: (context) => elements(context.spec("x").shape),
});
