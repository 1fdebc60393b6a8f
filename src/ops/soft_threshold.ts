import kernel from "../../kernels/soft_threshold.wgsl";
import { ShapeError } from "../base/errors";
import { elements, formatShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext } from "../op/declaration";
import { elementwiseLaunches } from "./shared/elementwise";

export type SoftThresholdAttributes = {
  /** Subtracted from the magnitude of each element. Smaller elements become 0. */
  readonly bound: number;
};

/**
 * p <- sign(p) max(|p| - bound, 0), the proximal step of an L1 penalty (SoRA, Ding et al. 2023, eq. 8). If total or
 * loss is not finite, p stays as it is. p [...], total [1] (sum of squares of all gradients), loss [1].
 */
export const softThreshold = defineOp({
  name: "soft_threshold",
  inputs: { p: { mutated: true }, total: {}, loss: {} },
  outputs: [],
  infer(context: InferContext<SoftThresholdAttributes>) {
    for (const slot of ["total", "loss"]) {
      const { shape } = context.spec(slot);
      if (elements(shape) === 1) continue;
      throw new ShapeError(`soft_threshold: ${slot} is ${formatShape(shape)}.`, "Pass it with the shape [1].");
    }
    return {};
  },
  forward: (context) =>
    elementwiseLaunches(
      {
        kernel,
        entry: "forward",
        tensors: ["p"],
        whole: ["total", "loss"],
        count: elements(context.spec("p").shape),
        params: () => ({ bound: context.attributes.bound }),
      },
      context.limits,
    ),
  gradients: [],
  flops: (context) => 2 * elements(context.spec("p").shape),
});
