import { elements } from "../../base/shape";
import type { LaunchContext, NoAttributes, Op, SlotSpecs } from "../../op/declaration";
import type { Kernel } from "../../op/kernel";
import type { Launch } from "../../op/launch";
import { accumulateParam, elementwiseLaunches } from "./elementwise";

/** A function of one number, to be applied to every element. */
export interface Unary {
  /** Has the entries `forward`, `grad_x`, `forward_in_place` and `grad_x_in_place`. */
  readonly kernel: Kernel;
  /** Whether the derivative is computed from the function's input x or its output y. */
  readonly keeps: "x" | "y";
  /** Floating-point operations for each element. */
  readonly flops: { readonly forward: number; readonly gradient: number };
}

type UnaryOp = Op<NoAttributes, { readonly x: { readonly gradient: true } }>;

/** An op that applies a function to every element: x [...], y [...]. */
export function unaryOp({ kernel, keeps, flops }: Unary): UnaryOp {
  const count = (context: SlotSpecs): number => elements(context.spec("x").shape);
  const launches = (entry: string, tensors: readonly string[], context: LaunchContext<NoAttributes>): Launch[] =>
    elementwiseLaunches(
      { kernel, entry, tensors, count: count(context), params: () => accumulateParam(context) },
      context.limits,
    );
  return {
    name: kernel.name,
    inputs: { x: { gradient: true } },
    outputs: ["y"],
    infer: (context) => ({ y: { shape: context.spec("x").shape, dtype: "f32" } }),
    forward: (context) =>
      context.inPlace ? launches("forward_in_place", ["y"], context) : launches("forward", ["x", "y"], context),
    overwrites: "x",
    gradients: [
      {
        wrt: ["x"],
        reads: () => [keeps],
        accumulates: true,
        overwrites: "dy",
        launches: (context) =>
          context.inPlace
            ? launches("grad_x_in_place", [keeps, "dx"], context)
            : launches("grad_x", [keeps, "dy", "dx"], context),
        flops: (context) => flops.gradient * count(context),
      },
    ],
    flops: (context) => flops.forward * count(context),
  };
}
