import kernel from "../../kernels/square_sum.wgsl";
import { ShapeError } from "../base/errors";
import { elements, formatShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext, NoAttributes } from "../op/declaration";
import { elementKernel } from "../op/element";
import { rowRanges } from "../op/launch";
import type { Launch } from "../op/launch";

const SEGMENT = 512;

const count = (context: InferContext<NoAttributes>): number => elements(context.spec("x").shape);
const segments = (context: InferContext<NoAttributes>): number => Math.ceil(count(context) / SEGMENT);

function segmentLaunches(context: LaunchContext<NoAttributes>): Launch[] {
  const element = elementKernel(kernel, [count(context)]);
  return rowRanges(segments(context), [SEGMENT * 4], context.limits).map((range) => {
    const first = range.start * SEGMENT;
    const rangeCount = Math.min(range.count * SEGMENT, count(context) - first);
    return {
      kernel: element.kernel,
      entry: "forward_partials",
      bindings: { x: { slot: "x", offset: first * 4, bytes: rangeCount * 4 }, partials: "partials" },
      params: { count: rangeCount, segment0: range.start, segments: 0 },
      constants: { ...element.constants, SEGMENT },
      workgroups: range.count,
    };
  });
}

/** total = previous + sum of x^2. A chain of these gives the global gradient norm. x [...], previous [1], total [1]. */
export const squareSum = defineOp({
  name: "square_sum",
  inputs: { x: {}, previous: { optional: true } },
  outputs: ["total"],
  infer(context: InferContext<NoAttributes>) {
    const previous = context.has("previous") ? context.spec("previous").shape : [1];
    if (elements(previous) !== 1) {
      throw new ShapeError(
        `square_sum: previous ${formatShape(previous)} is not one number.`,
        "Pass the total of another tensor, of shape [1].",
      );
    }
    return { total: { shape: [1], dtype: "f32" } };
  },
  temps: {
    partials: {
      reads: [],
      spec: (context) => ({ shape: [segments(context)], dtype: "f32" }),
      launches: () => [],
    },
  },
  forwardTemps: ["partials"],
  forward(context) {
    const isChained = context.has("previous");
    return [
      ...segmentLaunches(context),
      {
        ...elementKernel(kernel, [segments(context)]),
        entry: isChained ? "forward_chained" : "forward",
        bindings: { x: "partials", total: "total", ...(isChained && { previous: "previous" }) },
        params: { count: 0, segment0: 0, segments: segments(context) },
        workgroups: 1,
      },
    ];
  },
  gradients: [],
  flops: (context) => 2 * count(context),
});
