import { ShapeError } from "../base/errors";
import { elements, formatShape, sameShape } from "../base/shape";
import type { Shape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, InputSlot, LaunchContext } from "../op/declaration";
import { checkRank, stridesOf } from "./shared/strided";
import { gatherLaunches, scatterLaunches } from "./shared/view";
import type { View } from "./shared/view";

export type ConcatAttributes = {
  readonly axis: number;
};

/** The slots, x0 to x15; those behind the last tensor stay unbound. */
export const CONCAT_SLOTS: readonly string[] = Array.from({ length: 16 }, (_, i) => `x${i}`);

type Context = InferContext<ConcatAttributes>;

const bound = (context: Context): string[] => CONCAT_SLOTS.filter((slot) => context.has(slot));

function outputShape(context: Context): Shape {
  const { axis } = context.attributes;
  const shapes = bound(context).map((slot) => context.spec(slot).shape);
  return shapes[0]!.map((size, k) => (k === axis ? shapes.reduce((sum, shape) => sum + shape[k]!, 0) : size));
}

/** The places of an input in y. */
function viewOf(context: Context, slot: string): Pick<View, "count" | "axes" | "start"> {
  const { axis } = context.attributes;
  const [shape, strides] = [outputShape(context), stridesOf(outputShape(context))];
  const before = bound(context)
    .slice(0, bound(context).indexOf(slot))
    .reduce((sum, other) => sum + context.spec(other).shape[axis]!, 0);
  return {
    count: elements(shape),
    axes: context.spec(slot).shape.map((size, k) => ({ size, strides: [strides[k]!] })),
    start: before * strides[axis]!,
  };
}

const slots: Record<string, InputSlot> = Object.fromEntries(
  CONCAT_SLOTS.map((slot, i) => [slot, { gradient: true, optional: i > 0 }]),
);

/** Tensors one after the other along an axis. x0, x1, ... [..., n, ...], y [..., sum of n, ...]. */
export const concat = defineOp({
  name: "concat",
  inputs: slots,
  outputs: ["y"],
  infer(context: Context) {
    const { axis } = context.attributes;
    const shapes = bound(context).map((slot) => context.spec(slot).shape);
    const [first] = shapes;
    checkRank("concat", first!);
    const others = (shape: Shape): Shape => shape.filter((_, k) => k !== axis);
    const isAxis = Number.isInteger(axis) && axis >= 0 && axis < first!.length;
    const isFitting = shapes.every(
      (shape) => shape.length === first!.length && sameShape(others(shape), others(first!)),
    );
    if (!isAxis || !isFitting) {
      throw new ShapeError(
        `concat: ${shapes.map(formatShape).join(", ")} cannot follow each other along axis ${axis}.`,
        "All axes but that one must have equal sizes.",
      );
    }
    return { y: { shape: outputShape(context), dtype: "f32" } };
  },
  forward: (context) =>
    bound(context).flatMap((slot) => scatterLaunches({ packed: slot, viewed: "y", ...viewOf(context, slot) }, context)),
  gradients: CONCAT_SLOTS.map((slot) => ({
    wrt: [slot],
    reads: () => [],
    accumulates: true,
    launches: (context: LaunchContext<ConcatAttributes>) =>
      gatherLaunches({ packed: `d${slot}`, viewed: "dy", ...viewOf(context, slot) }, context),
  })),
  flops: () => 0,
});
