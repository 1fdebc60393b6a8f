import kernel from "../../kernels/mean_absolute.wgsl";
import { elements } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { LaunchContext } from "../op/declaration";
import { elementKernel, elementWorkgroups } from "../op/element";
import type { Launch } from "../op/launch";
import { accumulateParam } from "./shared/elementwise";

function launch(entry: "forward" | "grad_x", slots: readonly string[], context: LaunchContext): Launch {
  const count = elements(context.spec("x").shape);
  const element = elementKernel(kernel, [count]);
  return {
    ...element,
    entry,
    workgroups: entry === "forward" ? 1 : elementWorkgroups(count, element),
    bindings: Object.fromEntries(slots.map((slot) => [slot, slot])),
    params: { count, ...accumulateParam(context) },
  };
}

/** y = mean of |x|, an L1 penalty. x [...], y [1]. */
export const meanAbsolute = defineOp({
  name: "mean_absolute",
  inputs: { x: { gradient: true } },
  outputs: ["y"],
  infer: () => ({ y: { shape: [1], dtype: "f32" } }),
  forward: (context) => [launch("forward", ["x", "y"], context)],
  gradients: [
    {
      wrt: ["x"],
      reads: () => ["x"],
      accumulates: true,
      launches: (context) => [launch("grad_x", ["x", "dy", "dx"], context)],
      flops: (context) => 2 * elements(context.spec("x").shape),
    },
  ],
  flops: (context) => elements(context.spec("x").shape),
});
