import { ShapeError } from "../base/errors";
import { elements, formatShape } from "../base/shape";
import { accumulateLaunches } from "../op/accumulate";
import { defineOp } from "../op/declaration";
import type { InferContext } from "../op/declaration";

export type ReshapeAttributes = {
  readonly shape: readonly number[];
};

/** The same elements in another shape. x [...], y [shape]. It costs nothing where nothing else reads x. */
export const reshape = defineOp({
  name: "reshape",
  inputs: { x: { gradient: true } },
  outputs: ["y"],
  infer(context: InferContext<ReshapeAttributes>) {
    const { shape } = context.attributes;
    const x = context.spec("x").shape;
    if (shape.some((size) => !Number.isInteger(size) || size < 1) || elements(shape) !== elements(x)) {
      throw new ShapeError(
        `reshape: x ${formatShape(x)} has ${elements(x)} elements and cannot have the shape ${formatShape(shape)}.`,
        "Pass sizes whose product is the number of elements.",
      );
    }
    return { y: { shape, dtype: "f32" } };
  },
  forward: (context) =>
    context.inPlace ? [] : accumulateLaunches("x", "y", elements(context.spec("x").shape), false, context.limits),
  overwrites: "x",
  gradients: [{ wrt: ["x"], reads: () => [], passesThrough: true }],
  flops: () => 0,
});
