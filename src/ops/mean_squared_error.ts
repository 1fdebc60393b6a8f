import kernel from "../../kernels/mean_squared_error.wgsl";
import { ShapeError } from "../base/errors";
import { elements, formatShape, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { LaunchContext, NoAttributes } from "../op/declaration";
import type { Launch } from "../op/launch";
import { accumulateParam, elementwiseLaunches } from "./shared/elementwise";

const TENSORS = ["prediction", "targets", "mask"];

type Context = LaunchContext<NoAttributes>;

/** One workgroup for each range. Every range but the first adds to the loss. */
function lossLaunches(context: Context): Launch[] {
  return elementwiseLaunches(
    {
      kernel,
      entry: "forward",
      tensors: TENSORS,
      whole: ["normalizer", "loss"],
      count: elements(context.spec("prediction").shape),
      params: ({ start }) => ({ accumulate: start > 0 ? 1 : 0 }),
    },
    context.limits,
  ).map((launch) => ({ ...launch, workgroups: 1 }));
}

function gradientLaunches(context: Context): Launch[] {
  return elementwiseLaunches(
    {
      kernel,
      entry: "grad_prediction",
      tensors: [...TENSORS, "dprediction"],
      whole: ["normalizer", "dloss"],
      count: elements(context.spec("prediction").shape),
      params: () => accumulateParam(context),
    },
    context.limits,
  );
}

/**
 * Mean of (prediction - targets)^2 over the rows whose mask is not 0. prediction [n] or [n, 1], targets [n], mask i32
 * [n], normalizer f32 [1] = 1 / (number of rows whose mask is not 0); loss [1].
 */
export const meanSquaredError = defineOp({
  name: "mean_squared_error",
  inputs: { prediction: { gradient: true }, targets: {}, mask: { dtype: "i32" }, normalizer: {} },
  outputs: ["loss"],
  infer(context) {
    const prediction = context.spec("prediction").shape;
    const [targets, mask] = [context.spec("targets").shape, context.spec("mask").shape];
    const n = elements(prediction);
    const fits = sameShape(prediction, [n]) || sameShape(prediction, [n, 1]);
    if (!fits || !sameShape(targets, [n]) || !sameShape(mask, [n])) {
      throw new ShapeError(
        `mean_squared_error: prediction ${formatShape(prediction)}, targets ${formatShape(targets)} and mask ${formatShape(mask)} do not fit.`,
        "Pass one number for each row: prediction [n] or [n, 1], targets [n], mask [n].",
      );
    }
    return { loss: { shape: [1], dtype: "f32" } };
  },
  forward: lossLaunches,
  gradients: [
    {
      wrt: ["prediction"],
      reads: () => ["prediction", "targets", "mask", "normalizer"],
      accumulates: true,
      launches: gradientLaunches,
      flops: (context) => 3 * elements(context.spec("prediction").shape),
    },
  ],
  flops: (context) => 3 * elements(context.spec("prediction").shape),
});
