import { elements } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, OpCase } from "../op/declaration";
import { checkAxes, keptShape, reducedShape, reductionReference } from "./shared/axes";
import type { AxesAttributes } from "./shared/axes";
import { broadcastAxes } from "./shared/broadcast";
import { input } from "./shared/reference";
import { sumLaunches } from "./shared/sum";
import { gatherLaunches } from "./shared/view";

export type SumAttributes = AxesAttributes & {
  /** Whether sums are divided by the number of elements that each of them has. */
  readonly mean: boolean;
};

/** What the sums are multiplied by. */
function factorOf(context: InferContext<SumAttributes>): number {
  const { shape } = context.spec("x");
  const { axes, mean } = context.attributes;
  return mean ? 1 / axes.reduce((product, axis) => product * shape[axis]!, 1) : 1;
}

/** Sums or means over axes. x [...], y [x without the axes, or with 1 in their places]. */
export const sum = defineOp<SumAttributes>({
  name: "sum",
  inputs: { x: { gradient: true } },
  outputs: ["y"],
  infer(context) {
    const { shape } = context.spec("x");
    checkAxes("sum", shape, context.attributes);
    return { y: { shape: reducedShape(shape, context.attributes), dtype: "f32" } };
  },
  forward(context) {
    const { shape } = context.spec("x");
    const targetShape = keptShape(shape, context.attributes);
    return sumLaunches({ source: "x", shape, target: "y", targetShape, factor: factorOf(context) }, context);
  },
  gradients: [
    {
      wrt: ["x"],
      reads: () => [],
      accumulates: true,
      launches(context) {
        const { shape } = context.spec("x");
        const kept = keptShape(shape, context.attributes);
        const view = { packed: "dx", viewed: "dy", count: elements(kept), axes: broadcastAxes(shape, [kept]) };
        return gatherLaunches({ ...view, factor: factorOf(context) }, context);
      },
      flops: (context) => elements(context.spec("x").shape),
    },
  ],
  flops: (context) => elements(context.spec("x").shape),
  reference(inputs, attributes) {
    const y = reductionReference(input(inputs, "x"), attributes, (values) => {
      const total = values.reduce((a, b) => a + b, 0);
      return attributes.mean ? total / values.length : total;
    });
    return { y };
  },
  cases: [
    ...[
      { name: "over the middle axis", axes: [1], shape: [3, 5, 2] },
      { name: "over the first and last axis, mean", axes: [0, 2], shape: [3, 4, 5], mean: true },
      { name: "over the first axis, vectors of four", axes: [0], shape: [3, 8], keepDims: true },
      { name: "over many, mean", axes: [1], shape: [3, 70], keepDims: true, mean: true },
      { name: "over no axis", axes: [], shape: [2, 3] },
      { name: "of one element", axes: [0], shape: [1] },
      { name: "that can be split over bindings", axes: [0, 2], shape: [3, 5, 400] },
      { name: "over the first axis that can be split over bindings", axes: [0], shape: [30, 200] },
    ].map(({ name, axes, shape, keepDims = false, mean = false }): OpCase<SumAttributes> => ({
      name,
      attributes: { axes, keepDims, mean },
      inputs: { x: { shape } },
    })),
  ],
  malformed: [
    {
      name: "an axis that is not there",
      attributes: { axes: [2], keepDims: false, mean: false },
      inputs: { x: { shape: [2, 3], dtype: "f32" } },
      message: /sum: axes \[2\] are not axes of x \[2, 3\]/,
    },
    {
      name: "an axis twice",
      attributes: { axes: [1, 1], keepDims: false, mean: true },
      inputs: { x: { shape: [2, 3], dtype: "f32" } },
      message: /sum: axes \[1, 1\] are not axes of x \[2, 3\]/,
    },
  ],
});
