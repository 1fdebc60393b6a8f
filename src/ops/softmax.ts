import kernel from "../../kernels/softmax.wgsl";
import { ShapeError } from "../base/errors";
import { columns, elements, rows } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { LaunchContext, OpCase } from "../op/declaration";
import { bindRows, rowRanges } from "../op/launch";
import type { Launch } from "../op/launch";
import { accumulateParam } from "./shared/elementwise";
import { input } from "./shared/reference";

export type SoftmaxAttributes = {
  /** Whether the output is the logarithm of the softmax. */
  readonly logarithm: boolean;
};

function launches(entry: string, tensors: readonly string[], context: LaunchContext<SoftmaxAttributes>): Launch[] {
  const { shape } = context.spec("x");
  const width = columns(shape);
  return rowRanges(rows(shape), [width * 4], context.limits).map((range) => ({
    kernel,
    entry,
    constants: { LOGARITHM: context.attributes.logarithm ? 1 : 0 },
    bindings: Object.fromEntries(tensors.map((slot) => [slot, bindRows(slot, range, width * 4)])),
    params: { rows: range.count, columns: width, ...accumulateParam(context) },
    workgroups: range.count,
  }));
}

/** Softmax over the last axis, or its logarithm. x [..., n], y [..., n]. */
export const softmax = defineOp<SoftmaxAttributes>({
  name: "softmax",
  inputs: { x: { gradient: true } },
  outputs: ["y"],
  infer(context) {
    const { shape } = context.spec("x");
    if (shape.length === 0) {
      throw new ShapeError("softmax: x [] has no axis.", "Pass x with at least one axis; the last one is normalised.");
    }
    return { y: { shape, dtype: "f32" } };
  },
  forward: (context) =>
    context.inPlace ? launches("forward_in_place", ["y"], context) : launches("forward", ["x", "y"], context),
  overwrites: "x",
  gradients: [
    {
      wrt: ["x"],
      reads: () => ["y"],
      accumulates: true,
      overwrites: "dy",
      launches: (context) =>
        context.inPlace
          ? launches("grad_x_in_place", ["y", "dx"], context)
          : launches("grad_x", ["y", "dy", "dx"], context),
      flops: (context) => 4 * elements(context.spec("x").shape),
    },
  ],
  flops: (context) => 5 * elements(context.spec("x").shape),
  reference(inputs, { logarithm }) {
    const { shape, data } = input(inputs, "x");
    const width = columns(shape);
    const y = new Float64Array(data.length);
    for (let first = 0; first < data.length; first += width) {
      const row = data.subarray(first, first + width);
      const largest = Math.max(...row);
      const logSum = largest + Math.log(row.reduce((sum, value) => sum + Math.exp(value - largest), 0));
      row.forEach((value, j) => (y[first + j] = logarithm ? value - logSum : Math.exp(value - logSum)));
    }
    return { y: { shape, data: y } };
  },
  cases: [
    ...[true, false].flatMap((logarithm): OpCase<SoftmaxAttributes>[] => {
      const of = logarithm ? "logarithm" : "softmax";
      return [
        { name: `${of}, odd sizes`, attributes: { logarithm }, inputs: { x: { shape: [2, 3, 7], scale: 3 } } },
        { name: `${of}, a row of 130`, attributes: { logarithm }, inputs: { x: { shape: [2, 130] } } },
        {
          name: `${of}, far ends`,
          attributes: { logarithm },
          inputs: { x: { shape: [2, 3], values: [-1e4, 0, 3, 500, 510, 505] } },
        },
        {
          name: `${of}, rows that can be split over bindings`,
          attributes: { logarithm },
          inputs: { x: { shape: [83, 64] } },
        },
      ];
    }),
    { name: "one element", attributes: { logarithm: false }, inputs: { x: { shape: [1] } } },
  ],
  malformed: [
    {
      name: "a scalar",
      attributes: { logarithm: true },
      inputs: { x: { shape: [], dtype: "f32" } },
      message: /x \[\] has no axis/,
    },
  ],
});
