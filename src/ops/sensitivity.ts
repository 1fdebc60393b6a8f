import kernel from "../../kernels/sensitivity.wgsl";
import { ShapeError } from "../base/errors";
import { elements, formatShape, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext } from "../op/declaration";
import { elementwiseLaunches } from "./shared/elementwise";

/** Sensitivities of a weight p with gradient g: |g|, |p g|, |g / p|, |p|; in the order of the kernel's numbers. */
export const SENSITIVITY_KINDS = ["gradient", "weight_gradient", "gradient_over_weight", "weight"] as const;
export type SensitivityKind = (typeof SENSITIVITY_KINDS)[number];

export type SensitivityAttributes = {
  readonly kind: SensitivityKind;
  /** Decay of the moving average `mean`. */
  readonly beta1: number;
  /** Decay of the moving average `uncertainty`. */
  readonly beta2: number;
};

/**
 * Smoothed sensitivity and uncertainty of every weight (PLATON, Zhang et al. 2022; AdaLoRA, Zhang et al. 2023, eq. 9
 * and 10; AFLoRA, Liu et al. 2024, section 3). p, g, mean, uncertainty [...] of one shape; the last two are updated in
 * place. With `average` [...] and `phase` [1], the sensitivity is first averaged over windows of steps, as in AFLoRA's
 * published code; `phase` is the number of the step in its window, from 0.
 */
export const sensitivity = defineOp({
  name: "sensitivity",
  inputs: {
    p: {},
    g: {},
    mean: { mutated: true },
    uncertainty: { mutated: true },
    average: { mutated: true, optional: true },
    phase: { optional: true },
  },
  outputs: [],
  infer(context: InferContext<SensitivityAttributes>) {
    const p = context.spec("p").shape;
    if (context.has("average") !== context.has("phase")) {
      throw new ShapeError("sensitivity: average and phase belong together.", "Pass both or neither.");
    }
    for (const slot of ["g", "mean", "uncertainty", ...(context.has("average") ? ["average"] : [])]) {
      const { shape } = context.spec(slot);
      if (sameShape(shape, p)) continue;
      throw new ShapeError(
        `sensitivity: ${slot} ${formatShape(shape)} differs from p ${formatShape(p)}.`,
        "Pass all with the parameter's shape.",
      );
    }
    return {};
  },
  forward(context) {
    const hasWindow = context.has("average");
    const tensors = ["p", "g", "mean", "uncertainty"];
    return elementwiseLaunches(
      {
        ...(hasWindow
          ? { kernel, entry: "forward_window", tensors: [...tensors, "average"], whole: ["phase"] }
          : { kernel, entry: "forward", tensors }),
        count: elements(context.spec("p").shape),
        params: () => {
          const { kind, beta1, beta2 } = context.attributes;
          return { kind: SENSITIVITY_KINDS.indexOf(kind), beta1, beta2 };
        },
      },
      context.limits,
    );
  },
  gradients: [],
  flops: (context) => 9 * elements(context.spec("p").shape),
});
