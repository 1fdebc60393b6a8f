import { ShapeError } from "../base/errors";
import { elements, formatShape } from "../base/shape";
import type { Shape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, OpCase } from "../op/declaration";
import { at, filled, input } from "./shared/reference";
import { checkRank, stridesOf } from "./shared/strided";
import { gatherLaunches, scatterLaunches } from "./shared/view";
import type { View } from "./shared/view";

export type TransposeAttributes = {
  /** The axis of x that becomes each axis of y. */
  readonly axes: readonly number[];
};

const transposed = (shape: Shape, axes: readonly number[]): number[] => axes.map((axis) => shape[axis]!);

function viewOf(context: InferContext<TransposeAttributes>): Pick<View, "count" | "axes"> {
  const { shape } = context.spec("x");
  const strides = stridesOf(shape);
  const axes = context.attributes.axes.map((axis) => ({ size: shape[axis]!, strides: [strides[axis]!] }));
  return { count: elements(shape), axes };
}

/** The same elements with permuted axes. x [...], y [x's axes in the order of `axes`]. */
export const transpose = defineOp<TransposeAttributes>({
  name: "transpose",
  inputs: { x: { gradient: true } },
  outputs: ["y"],
  infer(context) {
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
  reference(inputs, { axes }) {
    const x = input(inputs, "x");
    const shape = transposed(x.shape, axes);
    const [places, strides] = [stridesOf(shape), stridesOf(x.shape)];
    const from = (i: number): number =>
      axes.reduce((sum, axis, k) => sum + (Math.floor(i / places[k]!) % shape[k]!) * strides[axis]!, 0);
    return { y: filled(shape, (i) => at(x, from(i))) };
  },
  cases: [
    ...[
      { name: "odd sizes", axes: [2, 0, 1], shape: [2, 3, 5] },
      { name: "the last axis stays, vectors of four", axes: [1, 0, 2], shape: [2, 3, 8] },
      { name: "six axes", axes: [5, 3, 1, 4, 2, 0], shape: [2, 1, 3, 2, 1, 2] },
      { name: "one element", axes: [0], shape: [1] },
      { name: "that can be split over bindings", axes: [1, 0], shape: [41, 136] },
    ].map(({ name, axes, shape }): OpCase<TransposeAttributes> => ({
      name,
      attributes: { axes },
      inputs: { x: { shape } },
    })),
  ],
  malformed: [
    {
      name: "an axis twice",
      attributes: { axes: [0, 0] },
      inputs: { x: { shape: [2, 3], dtype: "f32" } },
      message: /\[0, 0\] does not permute the axes of x \[2, 3\]/,
    },
  ],
});
