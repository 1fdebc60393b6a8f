import { ShapeError } from "../base/errors";
import { elements, formatShape } from "../base/shape";
import type { Shape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext } from "../op/declaration";
import { checkRank, stridesOf } from "./shared/strided";
import { gatherLaunches, scatterLaunches } from "./shared/view";
import type { View } from "./shared/view";

export type TransposeAttributes = {
  /** The axis of x that becomes each axis of y. */
  readonly axes: readonly number[];
};

/** The shape with its axes in another order. */
export const transposed = (shape: Shape, axes: readonly number[]): number[] => axes.map((axis) => shape[axis]!);

function viewOf(context: InferContext<TransposeAttributes>): Pick<View, "count" | "axes"> {
  const { shape } = context.spec("x");
  const strides = stridesOf(shape);
  const axes = context.attributes.axes.map((axis) => ({ size: shape[axis]!, strides: [strides[axis]!] }));
  return { count: elements(shape), axes };
}

/** The same elements with permuted axes. x [...], y [x's axes in the order of `axes`]. */
export const transpose = defineOp({
  name: "transpose",
  inputs: { x: { gradient: true } },
  outputs: ["y"],
  infer(context: InferContext<TransposeAttributes>) {
    const { shape } = context.spec("x");
    const { axes } = context.attributes;
    checkRank("transpose", shape);
    if (axes.length !== shape.length || shape.some((_, axis) => !axes.includes(axis))) {
      throw new ShapeError(
        `transpose: ${formatShape(axes)} does not permute the axes of x ${formatShape(shape)}.`,
        "Name every axis of x once, by its number from 0.",
      );
    }
    return { y: { shape: transposed(shape, axes), dtype: "f32" } };
  },
  forward: (context) => gatherLaunches({ packed: "y", viewed: "x", ...viewOf(context) }, context),
  gradients: [
    {
      wrt: ["x"],
      reads: () => [],
      accumulates: true,
      launches: (context) => scatterLaunches({ packed: "dy", viewed: "dx", ...viewOf(context) }, context),
    },
  ],
  flops: () => 0,
});
