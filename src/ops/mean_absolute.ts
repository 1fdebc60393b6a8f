import kernel from "../../kernels/mean_absolute.wgsl";
import { elements } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { LaunchContext, NoAttributes } from "../op/declaration";
import { elementKernel, elementWorkgroups } from "../op/element";
import type { Launch } from "../op/launch";
import { accumulateParam } from "./shared/elementwise";
import { input } from "./shared/reference";

function launch(entry: "forward" | "grad_x", slots: readonly string[], context: LaunchContext<NoAttributes>): Launch {
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
export const meanAbsolute = defineOp<NoAttributes>({
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
  reference(inputs) {
    const x = input(inputs, "x");
    const sum = x.data.reduce((total, v) => total + Math.abs(v), 0);
    return { y: { shape: [1], data: Float64Array.of(sum / x.data.length) } };
  },
  cases: [
    { name: "odd size", attributes: {}, inputs: { x: { shape: [7], offset: 3 } } },
    { name: "both signs", attributes: {}, inputs: { x: { shape: [4], values: [-2, 1.5, -0.5, 3] } } },
    { name: "more elements than a workgroup", attributes: {}, inputs: { x: { shape: [9, 11], offset: -5 } } },
    { name: "gates of rank 64", attributes: {}, inputs: { x: { shape: [64] } }, bench: true },
  ],
  malformed: [],
});
