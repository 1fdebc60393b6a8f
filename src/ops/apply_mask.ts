import kernel from "../../kernels/apply_mask.wgsl";
import { ShapeError } from "../base/errors";
import { elements, formatShape, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { NoAttributes } from "../op/declaration";
import { elementwiseLaunches } from "./shared/elementwise";
import { at, filled, input } from "./shared/reference";

/**
 * x <- x mask, in place, for pruned tensors and their gradients. Where the mask is 0, x becomes 0 even if it is not
 * finite. x, mask [...] of one shape.
 */
export const applyMask = defineOp<NoAttributes>({
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
  reference(inputs) {
    const [x, mask] = [input(inputs, "x"), input(inputs, "mask")];
    return { x: filled(x.shape, (i) => (at(mask, i) === 0 ? 0 : at(x, i) * at(mask, i))) };
  },
  cases: [
    {
      name: "zeros and ones, an infinite element",
      attributes: {},
      inputs: { x: { shape: [4], values: [1, -2, Infinity, 4] }, mask: { shape: [4], values: [1, 0, 0, 1] } },
    },
    {
      name: "elements that can be split over bindings",
      attributes: {},
      inputs: { x: { shape: [37, 50] }, mask: { shape: [37, 50] } },
    },
    {
      name: "A of BERT-base, rank 4",
      attributes: {},
      inputs: { x: { shape: [4, 768] }, mask: { shape: [4, 768] } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "a mask of another shape",
      attributes: {},
      inputs: { x: { shape: [2, 3], dtype: "f32" }, mask: { shape: [3, 2], dtype: "f32" } },
      message: /mask \[3, 2\] differs from x \[2, 3\]/,
    },
  ],
});
