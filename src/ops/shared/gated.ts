import { ShapeError } from "../../base/errors";
import { elements, formatShape, sameShape } from "../../base/shape";
import type { Attributes, LaunchContext, Op, SlotSpecs } from "../../op/declaration";
import type { Kernel } from "../../op/kernel";
import type { Absorption, Launch } from "../../op/launch";
import { accumulateParam, elementwiseLaunches } from "./elementwise";

/** A gated unit, y = activation(gate) * up (Shazeer 2020). */
export interface GatedUnit<A extends Attributes> {
  /** Has the entries `forward`, `forward_in_place`, `grad_gate`, `grad_up`, `grad_up_in_place` and `grad_gate_up_in_place`. */
  readonly kernel: Kernel;
  /** Fields of `Params` other than `count` and `accumulate`. */
  params?(attributes: A): Record<string, number>;
  /** Floating-point operations for each element: forward, of the gradient of the gate, of that of `up`. */
  readonly flops: readonly [forward: number, gate: number, up: number];
}

/** The gradient of `gate` just before that of `up`, which overwrites dy. */
const gateGradient = ({ name }: Kernel): Absorption => ({
  before: [
    {
      kernel: name,
      entry: "grad_gate",
      variables: { gate: "gate", up: "up", dy: "dup", dgate: "dgate" },
      params: "gate_params",
    },
  ],
  by: "grad_gate_up_in_place",
});

type GatedOp<A extends Attributes> = Op<
  A,
  { readonly gate: { readonly gradient: true }; readonly up: { readonly gradient: true } }
>;

/** An op that multiplies a value by an activation of a gate. gate, up, y [...] of one shape. */
export function gatedOp<A extends Attributes>(unit: GatedUnit<A>): GatedOp<A> {
  const { kernel, flops } = unit;
  const absorbs = [gateGradient(kernel)];
  const count = (context: SlotSpecs): number => elements(context.spec("gate").shape);
  const launches = (entry: string, tensors: readonly string[], context: LaunchContext<A>): Launch[] => {
    const params = () => ({ ...unit.params?.(context.attributes), ...accumulateParam(context) });
    return elementwiseLaunches({ kernel, entry, tensors, count: count(context), params }, context.limits);
  };
  return {
    name: kernel.name,
    inputs: { gate: { gradient: true }, up: { gradient: true } },
    outputs: ["y"],
    infer(context) {
      const [gate, up] = [context.spec("gate").shape, context.spec("up").shape];
      if (!sameShape(gate, up)) {
        throw new ShapeError(
          `${kernel.name}: gate ${formatShape(gate)} and up ${formatShape(up)} differ.`,
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
        flops: (context) => flops[1] * count(context),
      },
      {
        wrt: ["up"],
        reads: () => ["gate"],
        accumulates: true,
        overwrites: "dy",
        launches: (context) =>
          context.inPlace
            ? launches("grad_up_in_place", ["gate", "dup"], context).map((launch) => ({ ...launch, absorbs }))
            : launches("grad_up", ["gate", "dy", "dup"], context),
        flops: (context) => flops[2] * count(context),
      },
    ],
    flops: (context) => flops[0] * count(context),
  };
}
