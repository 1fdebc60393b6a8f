import kernel from "../../kernels/swiglu.wgsl";
import { ShapeError } from "../base/errors";
import { elements, formatShape, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { LaunchContext, NoAttributes } from "../op/declaration";
import type { Absorption, Launch } from "../op/launch";
import { accumulateParam, elementwiseLaunches } from "./shared/elementwise";
import { at, filled, input } from "./shared/reference";

function launches(entry: string, tensors: readonly string[], context: LaunchContext<NoAttributes>): Launch[] {
  const count = elements(context.spec("gate").shape);
  return elementwiseLaunches({ kernel, entry, tensors, count, params: () => accumulateParam(context) }, context.limits);
}

/** The gradient of `gate` just before that of `up`, which overwrites dy. */
const GATE_GRADIENT: Absorption = {
  before: [
    {
      kernel: kernel.name,
      entry: "grad_gate",
      variables: { gate: "gate", up: "up", dy: "dup", dgate: "dgate" },
      params: "gate_params",
    },
  ],
  by: "grad_gate_up_in_place",
};

/** y = silu(gate) * up, the gated unit of LLaMA (Shazeer 2020, eq. 6). gate, up, y [...] of one shape. */
export const swiglu = defineOp<NoAttributes>({
  name: "swiglu",
  inputs: { gate: { gradient: true }, up: { gradient: true } },
  outputs: ["y"],
  infer(context) {
    const [gate, up] = [context.spec("gate").shape, context.spec("up").shape];
    if (!sameShape(gate, up)) {
      throw new ShapeError(
        `swiglu: gate ${formatShape(gate)} and up ${formatShape(up)} differ.`,
        "Pass two projections of the same shape.",
      );
    }
    return { y: { shape: gate, dtype: "f32" } };
  },
  forward: (context) =>
    context.inPlace
      ? launches("forward_in_place", ["up", "y"], context)
      : launches("forward", ["gate", "up", "y"], context),
  overwrites: "gate",
  gradients: [
    {
      wrt: ["gate"],
      reads: () => ["gate", "up"],
      accumulates: true,
      launches: (context) => launches("grad_gate", ["gate", "up", "dy", "dgate"], context),
      flops: (context) => 11 * elements(context.spec("gate").shape),
    },
    {
      wrt: ["up"],
      reads: () => ["gate"],
      accumulates: true,
      overwrites: "dy",
      launches: (context) =>
        context.inPlace
          ? launches("grad_up_in_place", ["gate", "dup"], context).map((launch) => ({
              ...launch,
              absorbs: [GATE_GRADIENT],
            }))
          : launches("grad_up", ["gate", "dy", "dup"], context),
      flops: (context) => 7 * elements(context.spec("gate").shape),
    },
  ],
  flops: (context) => 7 * elements(context.spec("gate").shape),
  reference(inputs) {
    const [gate, up] = [input(inputs, "gate"), input(inputs, "up")];
    return { y: filled(gate.shape, (i) => (at(gate, i) / (1 + Math.exp(-at(gate, i)))) * at(up, i)) };
  },
  cases: [
    { name: "odd size", attributes: {}, inputs: { gate: { shape: [2, 3, 5], scale: 2 }, up: { shape: [2, 3, 5] } } },
    {
      name: "far tails and near zero",
      attributes: {},
      inputs: { gate: { shape: [7], values: [-200, -20, -1e-4, 0, 1e-4, 20, 200] }, up: { shape: [7] } },
    },
    { name: "one element", attributes: {}, inputs: { gate: { shape: [1] }, up: { shape: [1] } } },
    {
      name: "elements that can be split over bindings",
      attributes: {},
      inputs: { gate: { shape: [37, 50] }, up: { shape: [37, 50] } },
    },
    {
      name: "LLaMA-2 7B, 128 tokens",
      attributes: {},
      inputs: { gate: { shape: [128, 11008] }, up: { shape: [128, 11008] } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "shapes that differ",
      attributes: {},
      inputs: { gate: { shape: [2, 3], dtype: "f32" }, up: { shape: [3, 2], dtype: "f32" } },
      message: /gate \[2, 3\] and up \[3, 2\] differ/,
    },
  ],
});
