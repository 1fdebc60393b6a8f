import kernel from "../../kernels/reduce.wgsl";
import { elements } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext, OpCase } from "../op/declaration";
import type { Launch } from "../op/launch";
import { checkAxes, keptShape, reducedShape, reductionReference } from "./shared/axes";
import type { AxesAttributes } from "./shared/axes";
import { reducingAxes } from "./shared/broadcast";
import { fillLaunches } from "./shared/fill";
import { input } from "./shared/reference";
import { stridedLaunches } from "./shared/strided";

const iteration = (context: InferContext<AxesAttributes>) => {
  const { shape } = context.spec("x");
  return reducingAxes(shape, keptShape(shape, context.attributes), [shape]);
};

function gradientLaunches(context: LaunchContext<AxesAttributes>): Launch[] {
  const count = elements(context.spec("x").shape);
  const scattered = stridedLaunches(
    {
      kernel,
      entry: "grad_x",
      ...iteration(context),
      isScalar: true,
      sharesSums: false,
      operands: [{ variable: "dx", slot: "dx", count }],
      targets: { index: "index", dy: "dy" },
    },
    context.limits,
  );
  return [...(context.accumulate ? [] : fillLaunches("dx", count, 0, context.limits)), ...scattered];
}

/**
 * Maxima over axes, and where they are. x [...], y [x without the axes, or with 1 in their places], index i32 [as y]: the first
 * place of the maximum among the elements of the axes, in row-major order; all of the gradient goes there.
 */
export const max = defineOp<AxesAttributes>({
  name: "max",
  inputs: { x: { gradient: true } },
  outputs: ["y", "index"],
  infer(context) {
    const { shape } = context.spec("x");
    checkAxes("max", shape, context.attributes);
    const reduced = reducedShape(shape, context.attributes);
    return { y: { shape: reduced, dtype: "f32" }, index: { shape: reduced, dtype: "i32" } };
  },
  forward: (context) =>
    stridedLaunches(
      {
        kernel,
        entry: "maximum",
        ...iteration(context),
        isScalar: true,
        operands: [{ variable: "x", slot: "x", count: elements(context.spec("x").shape) }],
        targets: { largest: "y", index: "index" },
      },
      context.limits,
    ),
  gradients: [
    {
      wrt: ["x"],
      reads: () => ["index"],
      accumulates: true,
      launches: gradientLaunches,
      flops: (context) => elements(context.spec("y").shape),
    },
  ],
  flops: (context) => elements(context.spec("x").shape),
  reference(inputs, attributes) {
    const x = input(inputs, "x");
    const largest = (values: readonly number[]): number => values.reduce((a, b) => Math.max(a, b), -Infinity);
    return {
      y: reductionReference(x, attributes, largest),
      index: reductionReference(x, attributes, (values) => values.indexOf(largest(values))),
    };
  },
  cases: [
    ...[
      { name: "over the middle axis", axes: [1], shape: [3, 5, 2] },
      { name: "over the first and last axis", axes: [0, 2], shape: [3, 4, 5], keepDims: true },
      { name: "over many", axes: [1], shape: [3, 70] },
      { name: "of one element", axes: [0], shape: [1] },
      { name: "that can be split over bindings", axes: [0, 2], shape: [3, 5, 400] },
      { name: "over the first axis that can be split over bindings", axes: [0], shape: [30, 200] },
    ].map(({ name, axes, shape, keepDims = false }): OpCase<AxesAttributes> => ({
      name,
      attributes: { axes, keepDims },
      inputs: { x: { shape } },
    })),
  ],
  malformed: [
    {
      name: "an axis that is not there",
      attributes: { axes: [-1], keepDims: false },
      inputs: { x: { shape: [2, 3], dtype: "f32" } },
      message: /max: axes \[-1\] are not axes of x \[2, 3\]/,
    },
  ],
});
