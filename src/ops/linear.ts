import { WEIGHT_FORMATS } from "../base/packed";
import { columns, elements, formatShape, rows } from "../base/shape";
import { ShapeError } from "../base/errors";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext } from "../op/declaration";
import type { Launch } from "../op/launch";
import { productFlops, productLaunches } from "./shared/product";
import { columnSumLaunches } from "./shared/column-sum";

export type LinearAttributes = {
  /** How w is stored: [out, in] as in torch.nn.Linear, or [in, out] as in GPT-2's Conv1D. */
  readonly layout: "out_in" | "in_out";
};

/** Sizes of a projection from x [rows, in] to y [rows, out]. */
export function linearSizes(context: InferContext<LinearAttributes>): { rows: number; in: number; out: number } {
  const x = context.spec("x").shape;
  const w = context.spec("w").shape;
  const [first = 0, second = 0] = w;
  if (context.attributes.layout === "in_out") return { rows: rows(x), in: first, out: second };
  return { rows: rows(x), in: elements(w) / first, out: first };
}

/** @throws ShapeError if x, w and bias do not fit each other. */
export function checkLinear(context: InferContext<LinearAttributes>): void {
  const x = context.spec("x").shape;
  const w = context.spec("w").shape;
  const sizes = linearSizes(context);
  const isMatrix = w.length === 2 || (w.length > 2 && context.attributes.layout === "out_in");
  if (x.length === 0 || !isMatrix || columns(x) !== sizes.in) {
    throw new ShapeError(
      `linear: x ${formatShape(x)} does not fit w ${formatShape(w)} stored as ${context.attributes.layout}.`,
      "The last axis of x must be the weight's input size; pass the other layout if the weight is transposed.",
    );
  }
  if (context.has("bias") && columns(context.spec("bias").shape) !== sizes.out) {
    throw new ShapeError(
      `linear: bias ${formatShape(context.spec("bias").shape)} does not fit ${sizes.out} outputs.`,
      `Pass a bias of shape [${sizes.out}].`,
    );
  }
}

/** Launches of dw = x^T dy, in the layout of w. */
export function weightGradient(context: LaunchContext<LinearAttributes>): Launch[] {
  const size = linearSizes(context);
  const isOutFirst = context.attributes.layout === "out_in";
  return productLaunches(
    {
      m: isOutFirst ? size.out : size.in,
      n: isOutFirst ? size.in : size.out,
      k: size.rows,
      c: "dw",
      accumulate: context.accumulate,
      a: { slot: isOutFirst ? "dy" : "x", transposed: true },
      b: { slot: isOutFirst ? "x" : "dy" },
    },
    context.limits,
  );
}

/**
 * y = x W + bias. x [..., in], w [out, in] or [in, out] by `layout`, bias [out], y [..., out]. In layout `out_in`, w
 * may have more axes, which are flattened to [out, in], as the weight of a convolution over patches.
 */
export const linear = defineOp({
  name: "linear",
  inputs: {
    x: { gradient: true },
    w: { gradient: true, formats: WEIGHT_FORMATS },
    bias: { gradient: true, optional: true },
  },
  outputs: ["y"],
  infer(context: InferContext<LinearAttributes>) {
    checkLinear(context);
    const x = context.spec("x").shape;
    return { y: { shape: [...x.slice(0, -1), linearSizes(context).out], dtype: "f32" } };
  },
  forward(context) {
    const size = linearSizes(context);
    return productLaunches(
      {
        m: size.rows,
        n: size.out,
        k: size.in,
        c: "y",
        accumulate: false,
        a: { slot: "x" },
        b: { slot: "w", transposed: context.attributes.layout === "out_in", format: context.spec("w").dtype },
        bias: context.has("bias") ? "bias" : undefined,
      },
      context.limits,
    );
  },
  gradients: [
    {
      wrt: ["x"],
      reads: () => ["w"],
      accumulates: true,
      launches(context) {
        const size = linearSizes(context);
        return productLaunches(
          {
            m: size.rows,
            n: size.in,
            k: size.out,
            c: "dx",
            accumulate: context.accumulate,
            a: { slot: "dy" },
            b: { slot: "w", transposed: context.attributes.layout === "in_out", format: context.spec("w").dtype },
          },
          context.limits,
        );
      },
      flops: (context) => linearFlops(context),
    },
    {
      wrt: ["w"],
      reads: () => ["x"],
      accumulates: true,
      launches: weightGradient,
      flops: (context) => linearFlops(context),
    },
    {
      wrt: ["bias"],
      reads: () => [],
      accumulates: true,
      launches: (context) =>
        columnSumLaunches("dy", "dbias", linearSizes(context).rows, linearSizes(context).out, context),
      flops: (context) => linearSizes(context).rows * linearSizes(context).out,
    },
  ],
  flops: (context) => linearFlops(context),
});

function linearFlops(context: InferContext<LinearAttributes>): number {
  const size = linearSizes(context);
  return productFlops(size.rows, size.out, size.in);
}
