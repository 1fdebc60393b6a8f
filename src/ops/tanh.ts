import code from "../../kernels/tanh.wgsl";
import { elements } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { LaunchContext } from "../op/declaration";
import type { Launch } from "../op/launch";
import type { NoAttributes } from "./shared/attributes";
import { accumulateParam, elementwiseLaunches } from "./shared/elementwise";
import { at, filled, input } from "./shared/reference";

const kernel = { name: "tanh", code };

function launches(entry: string, tensors: readonly string[], context: LaunchContext<NoAttributes>): Launch[] {
  const count = elements(context.spec("x").shape);
  return elementwiseLaunches({ kernel, entry, tensors, count, params: () => accumulateParam(context) }, context.limits);
}

/** Hyperbolic tangent, elementwise. x [...], y [...]. */
export const tanh = defineOp<NoAttributes>({
  name: "tanh",
  inputs: { x: { gradient: true } },
  outputs: ["y"],
  infer: (context) => ({ y: { shape: context.spec("x").shape, dtype: "f32" } }),
  forward: (context) =>
    context.inPlace ? launches("forward_in_place", ["y"], context) : launches("forward", ["x", "y"], context),
  overwrites: "x",
  gradients: [
    {
      of: ["x"],
      reads: () => ["y"],
      accumulates: true,
      overwrites: "dy",
      launches: (context) =>
        context.inPlace
          ? launches("grad_x_in_place", ["y", "dx"], context)
          : launches("grad_x", ["y", "dy", "dx"], context),
      flops: (context) => 3 * elements(context.spec("x").shape),
    },
  ],
  flops: (context) => 15 * elements(context.spec("x").shape),
  reference(inputs) {
    const x = input(inputs, "x");
    return { y: filled(x.shape, (index) => Math.tanh(at(x, index))) };
  },
  cases: [
    { name: "odd size", attributes: {}, inputs: { x: { shape: [3, 5], scale: 2 } } },
    {
      name: "far tails and near zero",
      attributes: {},
      inputs: { x: { shape: [9], values: [-200, -20, -0.61, -1e-4, 0, 1e-4, 0.59, 20, 200] } },
    },
    { name: "one element", attributes: {}, inputs: { x: { shape: [1] } } },
    { name: "elements that can be split over bindings", attributes: {}, inputs: { x: { shape: [41, 50] } } },
    { name: "pooled BERT-large, 512 rows", attributes: {}, inputs: { x: { shape: [512, 1024] } }, bench: true },
  ],
  malformed: [],
});
