import kernel from "../../kernels/broadcast.wgsl";
import { elements } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext } from "../op/declaration";
import { broadcastAxes, broadcastShape } from "./shared/broadcast";
import { stridedLaunches } from "./shared/strided";

/** Comparisons. An index into this list is the kernel's `KIND`. */
export const KINDS = ["greater", "greater_equal", "less", "less_equal", "equal", "not_equal"] as const;

export type CompareAttributes = {
  readonly kind: (typeof KINDS)[number];
};

/** 1 where a comparison holds, else 0, of operands that are repeated as in NumPy. a, b [...], y i32 [shape of both]. */
export const compare = defineOp({
  name: "compare",
  inputs: { a: {}, b: {} },
  outputs: ["y"],
  infer: (context: InferContext<CompareAttributes>) => ({
    y: {
      shape: broadcastShape(context.attributes.kind, { a: context.spec("a").shape, b: context.spec("b").shape }),
      dtype: "i32",
    },
  }),
  forward(context) {
    const [a, b] = [context.spec("a").shape, context.spec("b").shape];
    return stridedLaunches(
      {
        kernel,
        entry: "compare",
        axes: broadcastAxes(context.spec("y").shape, [a, b]),
        operands: [
          { variable: "a", slot: "a", count: elements(a) },
          { variable: "b", slot: "b", count: elements(b) },
        ],
        constants: { KIND: KINDS.indexOf(context.attributes.kind) },
        targets: { flags: "y" },
      },
      context.limits,
    );
  },
  gradients: [],
  flops: (context) => elements(context.spec("a").shape),
});
