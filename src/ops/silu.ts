import code from "../../kernels/silu.wgsl";
import { elements } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { LaunchContext } from "../op/declaration";
import type { Launch } from "../op/launch";
import type { NoAttributes } from "./shared/attributes";
import { accumulateParam, elementwiseLaunches } from "./shared/elementwise";
import { at, filled, input } from "./shared/reference";

const kernel = { name: "silu", code };

function launches(entry: string, tensors: readonly string[], context: LaunchContext<NoAttributes>): Launch[] {
  const count = elements(context.spec("x").shape);
  return elementwiseLaunches({ kernel, entry, tensors, count, params: () => accumulateParam(context) }, context.limits);
}

/** Sigmoid-weighted linear unit, x / (1 + exp(-x)) (Elfwing et al. 2018), elementwise. x [...], y [...]. */
export const silu = defineOp<NoAttributes>({
  name: "silu",
  inputs: { x: { gradient: true } },
  outputs: ["y"],
  infer: (context) => ({ y: { shape: context.spec("x").shape, dtype: "f32" } }),
  forward: (context) =>
    context.inPlace ? launches("forward_in_place", ["y"], context) : launches("forward", ["x", "y"], context),
  overwrites: "x",
  gradients: [
    {
      of: ["x"],
      reads: () => ["x"],
      accumulates: true,
      overwrites: "dy",
      launches: (context) =>
        context.inPlace
          ? launches("grad_x_in_place", ["x", "dx"], context)
          : launches("grad_x", ["x", "dy", "dx"], context),
      flops: (context) => 9 * elements(context.spec("x").shape),
    },
  ],
  flops: (context) => 6 * elements(context.spec("x").shape),
  reference(inputs) {
    const x = input(inputs, "x");
    return { y: filled(x.shape, (index) => at(x, index) / (1 + Math.exp(-at(x, index)))) };
  },
  cases: [
    { name: "odd size", attributes: {}, inputs: { x: { shape: [3, 5], scale: 2 } } },
    {
      name: "far tails and near zero",
      attributes: {},
      inputs: { x: { shape: [9], values: [-200, -20, -1.3, -1e-4, 0, 1e-4, 1.3, 20, 200] } },
    },
    { name: "one element", attributes: {}, inputs: { x: { shape: [1] } } },
    { name: "elements that can be split over bindings", attributes: {}, inputs: { x: { shape: [41, 50] } } },
    { name: "gate of LLaMA-2 7B, 128 tokens", attributes: {}, inputs: { x: { shape: [128, 11008] } }, bench: true },
  ],
  malformed: [],
});
