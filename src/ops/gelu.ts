import kernel from "../../kernels/gelu.wgsl";
import { elements } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { LaunchContext } from "../op/declaration";
import type { Launch } from "../op/launch";
import { accumulateParam, elementwiseLaunches } from "./shared/elementwise";
import { normalDistribution } from "./shared/normal";
import { at, filled, input } from "./shared/reference";

export type GeluAttributes = {
  /** `none` is exact (BERT's "gelu"); `tanh` is the approximation of GPT-2 ("gelu_new"). */
  readonly approximation: "none" | "tanh";
};

/** The field of `Params` that kernels with lib/gelu read. */
export const geluParams = ({ approximation }: GeluAttributes): { by_tanh: number } => ({
  by_tanh: approximation === "tanh" ? 1 : 0,
});

/** GELU of a number in float64. */
export function geluReference(v: number, { approximation }: GeluAttributes): number {
  if (approximation === "none") return v * normalDistribution(v);
  return 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3)));
}

function launches(entry: string, tensors: readonly string[], context: LaunchContext<GeluAttributes>): Launch[] {
  const params = () => ({ ...geluParams(context.attributes), ...accumulateParam(context) });
  return elementwiseLaunches(
    { kernel, entry, tensors, count: elements(context.spec("x").shape), params },
    context.limits,
  );
}

/** Gaussian error linear unit (Hendrycks and Gimpel 2016). x [...], y [...]. */
export const gelu = defineOp<GeluAttributes>({
  name: "gelu",
  inputs: { x: { gradient: true } },
  outputs: ["y"],
  infer: (context) => ({ y: { shape: context.spec("x").shape, dtype: "f32" } }),
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
  reference(inputs, attributes) {
    const x = input(inputs, "x");
    return { y: filled(x.shape, (index) => geluReference(at(x, index), attributes)) };
  },
  cases: [
    { name: "exact, odd size", attributes: { approximation: "none" }, inputs: { x: { shape: [3, 7], scale: 2 } } },
    { name: "tanh, odd size", attributes: { approximation: "tanh" }, inputs: { x: { shape: [3, 7], scale: 2 } } },
    {
      name: "exact, far tails",
      attributes: { approximation: "none" },
      inputs: { x: { shape: [8], values: [-100, -14, -6, -1e-6, 0, 1e-6, 14, 100] } },
    },
    {
      name: "tanh, far tails",
      attributes: { approximation: "tanh" },
      inputs: { x: { shape: [8], values: [-100, -14, -6, -1e-6, 0, 1e-6, 14, 100] } },
    },
    { name: "one element", attributes: { approximation: "none" }, inputs: { x: { shape: [1] } } },
    {
      name: "elements that can be split over bindings",
      attributes: { approximation: "none" },
      inputs: { x: { shape: [37, 50], scale: 3 } },
    },
    {
      name: "tanh, elements that can be split over bindings",
      attributes: { approximation: "tanh" },
      inputs: { x: { shape: [37, 50], scale: 3 } },
    },
    {
      name: "BERT-base feed-forward, 512 tokens",
      attributes: { approximation: "none" },
      inputs: { x: { shape: [512, 3072] } },
      bench: true,
    },
    {
      name: "GPT-2 feed-forward, 512 tokens",
      attributes: { approximation: "tanh" },
      inputs: { x: { shape: [512, 3072] } },
      bench: true,
    },
  ],
  malformed: [],
});
