import kernel from "../../kernels/scale.wgsl";
import { elements } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext } from "../op/declaration";
import type { Launch } from "../op/launch";
import { accumulateParam, elementwiseLaunches } from "./shared/elementwise";

export type ScaleAttributes = {
  readonly factor: number;
};

function launches(entry: string, tensors: readonly string[], context: LaunchContext<ScaleAttributes>): Launch[] {
  const count = elements(context.spec("x").shape);
  const params = (): Record<string, number> => ({ factor: context.attributes.factor, ...accumulateParam(context) });
  return elementwiseLaunches({ kernel, entry, tensors, count, params }, context.limits);
}

/** y = factor x, elementwise. x [...], y [...]. */
export const scale = defineOp({
  name: "scale",
  inputs: { x: { gradient: true } },
  outputs: ["y"],
  infer: (context: InferContext<ScaleAttributes>) => ({ y: { shape: context.spec("x").shape, dtype: "f32" } }),
  forward: (context) =>
    context.inPlace ? launches("forward_in_place", ["y"], context) : launches("forward", ["x", "y"], context),
  overwrites: "x",
  gradients: [
    {
      wrt: ["x"],
      reads: () => [],
      accumulates: true,
      overwrites: "dy",
      launches: (context) =>
        context.inPlace ? launches("grad_x_in_place", ["dx"], context) : launches("grad_x", ["dy", "dx"], context),
      flops: (context) => elements(context.spec("x").shape),
    },
  ],
  flops: (context) => elements(context.spec("x").shape),
});
