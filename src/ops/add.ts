import kernel from "../../kernels/add.wgsl";
import { ShapeError } from "../base/errors";
import { elements, formatShape, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import { elementwiseLaunches } from "./shared/elementwise";

/** y = a + b, elementwise. a, b, y [...] of one shape. */
export const add = defineOp({
  name: "add",
  inputs: { a: { gradient: true }, b: { gradient: true } },
  outputs: ["y"],
  infer(context) {
    const [a, b] = [context.spec("a").shape, context.spec("b").shape];
    if (!sameShape(a, b)) {
      throw new ShapeError(
        `add: a ${formatShape(a)} and b ${formatShape(b)} differ.`,
        "Pass tensors of the same shape; add_broadcast repeats b over the leading axes of a.",
      );
    }
    return { y: { shape: a, dtype: "f32" } };
  },
  forward(context) {
    const count = elements(context.spec("a").shape);
    const [entry, tensors] = context.inPlace ? ["forward_in_place", ["b", "y"]] : ["forward", ["a", "b", "y"]];
    return elementwiseLaunches({ kernel, entry, tensors, count }, context.limits);
  },
  overwrites: "a",
  gradients: [
    { wrt: ["a"], reads: () => [], passesThrough: true },
    { wrt: ["b"], reads: () => [], passesThrough: true },
  ],
  flops: (context) => elements(context.spec("a").shape),
});
