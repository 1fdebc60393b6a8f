import { ShapeError } from "../base/errors";
import { elements, formatShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext } from "../op/declaration";
import { fillLaunches } from "./shared/fill";
import { checkRank, stridesOf } from "./shared/strided";
import { gatherLaunches, scatterLaunches } from "./shared/view";
import type { View } from "./shared/view";

export type SliceAttributes = {
  /** For each axis of x: the first index, how many are taken, and the distance from each to the next, which may be negative. */
  readonly starts: readonly number[];
  readonly sizes: readonly number[];
  readonly steps: readonly number[];
};

function viewOf(context: InferContext<SliceAttributes>): Pick<View, "count" | "axes" | "start"> {
  const { shape } = context.spec("x");
  const { starts, sizes, steps } = context.attributes;
  const strides = stridesOf(shape);
  return {
    count: elements(shape),
    axes: sizes.map((size, axis) => ({ size, strides: [strides[axis]! * steps[axis]!] })),
    start: starts.reduce((sum, start, axis) => sum + start * strides[axis]!, 0),
  };
}

/** Every step-th element along each axis, from a start on. x [...], y [sizes]; the gradient is 0 elsewhere. */
export const slice = defineOp({
  name: "slice",
  inputs: { x: { gradient: true } },
  outputs: ["y"],
  infer(context: InferContext<SliceAttributes>) {
    const { shape } = context.spec("x");
    const { starts, sizes, steps } = context.attributes;
    checkRank("slice", shape);
    const isWithin = (axis: number): boolean => {
      const [start, size, step] = [starts[axis] ?? NaN, sizes[axis] ?? NaN, steps[axis] ?? NaN];
      const last = start + (size - 1) * step;
      const isWhole = [start, size, step].every(Number.isInteger);
      return isWhole && step !== 0 && size >= 1 && Math.min(start, last) >= 0 && Math.max(start, last) < shape[axis]!;
    };
    const hasAllAxes = [starts, sizes, steps].every(({ length }) => length === shape.length);
    if (!hasAllAxes || !shape.every((_, axis) => isWithin(axis))) {
      throw new ShapeError(
        `slice: ${formatShape(sizes)} elements from ${formatShape(starts)} on in steps of ${formatShape(steps)} are not in x ${formatShape(shape)}.`,
        "Give each axis of x a start, a size of at least 1 and a step other than 0 that stay within it.",
      );
    }
    return { y: { shape: sizes, dtype: "f32" } };
  },
  forward: (context) => gatherLaunches({ packed: "y", viewed: "x", ...viewOf(context) }, context),
  gradients: [
    {
      wrt: ["x"],
      reads: () => [],
      accumulates: true,
      launches: (context) => [
        ...(context.accumulate ? [] : fillLaunches("dx", elements(context.spec("x").shape), 0, context.limits)),
        ...scatterLaunches({ packed: "dy", viewed: "dx", ...viewOf(context) }, context),
      ],
    },
  ],
  flops: () => 0,
});
