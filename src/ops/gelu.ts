import kernel from "../../kernels/gelu.wgsl";
import { elements } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext } from "../op/declaration";
import type { Launch } from "../op/launch";
import { accumulateParam, elementwiseLaunches } from "./shared/elementwise";

export type GeluAttributes = {
  /** `none` is exact (BERT's "gelu"); `tanh` is the approximation of GPT-2 ("gelu_new"). */
  readonly approximation: "none" | "tanh";
};

/** The field of `Params` that kernels with lib/gelu read. */
export const geluParams = ({ approximation }: GeluAttributes): { by_tanh: number } => ({
  by_tanh: approximation === "tanh" ? 1 : 0,
});

function launches(entry: string, tensors: readonly string[], context: LaunchContext<GeluAttributes>): Launch[] {
  const params = () => ({ ...geluParams(context.attributes), ...accumulateParam(context) });
  return elementwiseLaunches(
    { kernel, entry, tensors, count: elements(context.spec("x").shape), params },
    context.limits,
  );
}

/** Gaussian error linear unit (Hendrycks and Gimpel 2016). x [...], y [...]. */
export const gelu = defineOp({
  name: "gelu",
  inputs: { x: { gradient: true } },
  outputs: ["y"],
  infer: (context: InferContext<GeluAttributes>) => ({ y: { shape: context.spec("x").shape, dtype: "f32" } }),
  forward: (context) =>
    context.inPlace ? launches("forward_in_place", ["y"], context) : launches("forward", ["x", "y"], context),
  overwrites: "x",
  gradients: [
    {
      wrt: ["x"],
      reads: () => ["x"],
      accumulates: true,
      overwrites: "dy",
      launches: (context) =>
        context.inPlace
          ? launches("grad_x_in_place", ["x", "dx"], context)
          : launches("grad_x", ["x", "dy", "dx"], context),
      flops: (context) => 28 * elements(context.spec("x").shape),
    },
  ],
  flops: (context) => 20 * elements(context.spec("x").shape),
});
