import code from "../../kernels/relu.wgsl";
import { elements } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { LaunchContext } from "../op/declaration";
import type { Launch } from "../op/launch";
import type { NoAttributes } from "./shared/attributes";
import { accumulateParam, elementwiseLaunches } from "./shared/elementwise";
import { at, filled, input } from "./shared/reference";

const kernel = { name: "relu", code };

function launches(entry: string, tensors: readonly string[], context: LaunchContext<NoAttributes>): Launch[] {
  const count = elements(context.spec("x").shape);
  return elementwiseLaunches({ kernel, entry, tensors, count, params: () => accumulateParam(context) }, context.limits);
}

/** Rectified linear unit, elementwise. x [...], y [...]. */
export const relu = defineOp<NoAttributes>({
  name: "relu",
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
      flops: (context) => elements(context.spec("x").shape),
    },
  ],
  flops: (context) => elements(context.spec("x").shape),
  reference(inputs) {
    const x = input(inputs, "x");
    return { y: filled(x.shape, (index) => Math.max(0, at(x, index))) };
  },
  cases: [
    { name: "odd size", attributes: {}, inputs: { x: { shape: [3, 5], scale: 2 } } },
    { name: "one element", attributes: {}, inputs: { x: { shape: [1], offset: 1 } } },
    { name: "elements that can be split over bindings", attributes: {}, inputs: { x: { shape: [41, 50] } } },
    { name: "bottleneck of BERT-base, 512 tokens", attributes: {}, inputs: { x: { shape: [512, 48] } }, bench: true },
  ],
  malformed: [],
});
