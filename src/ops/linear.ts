import { WEIGHT_FORMATS } from "../base/packed";
import { columns, elements, formatShape, rows } from "../base/shape";
import { ShapeError } from "../base/errors";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext } from "../op/declaration";
import type { Launch } from "../op/launch";
import { productFlops, productLaunches } from "./shared/product";
import { columnSumLaunches } from "./shared/column-sum";
import { at, input, matrixProduct } from "./shared/reference";

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
export const linear = defineOp<LinearAttributes>({
  name: "linear",
  inputs: {
    x: { gradient: true },
    w: { gradient: true, formats: WEIGHT_FORMATS },
    bias: { gradient: true, optional: true },
  },
  outputs: ["y"],
  infer(context) {
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
  reference(inputs, { layout }) {
    const x = input(inputs, "x");
    const w = input(inputs, "w");
    const [first = 0, second = 0] = w.shape;
    const isOutFirst = layout === "out_in";
    const [out, inner] = isOutFirst ? [first, second] : [second, first];
    const data = matrixProduct(x, w, rows(x.shape), out, inner, { b: isOutFirst });
    const bias = inputs["bias"];
    return {
      y: { shape: [...x.shape.slice(0, -1), out], data: bias ? data.map((v, i) => v + at(bias, i % out)) : data },
    };
  },
  cases: [
    // Only rows whose length is a multiple of four are read as vectors.
    ...WEIGHT_FORMATS.filter((format) => format !== "f32").flatMap((format) => [
      {
        name: `weight in ${format}, out_in, blocks that are not full`,
        attributes: { layout: "out_in" },
        inputs: { x: { shape: [2, 6, 132] }, w: { shape: [12, 132], format }, bias: { shape: [12] } },
      } as const,
      {
        name: `weight in ${format}, in_out, words that are not full`,
        attributes: { layout: "in_out" },
        inputs: { x: { shape: [2, 5, 130] }, w: { shape: [130, 9], format }, bias: { shape: [9] } },
      } as const,
    ]),
    {
      name: "rows of a quantised weight that can be split over bindings",
      attributes: { layout: "out_in" },
      inputs: { x: { shape: [3, 64] }, w: { shape: [640, 64], format: "nf4" } },
    },
    {
      name: "torch layout with bias, odd sizes",
      attributes: { layout: "out_in" },
      inputs: { x: { shape: [3, 5, 7] }, w: { shape: [11, 7] }, bias: { shape: [11] } },
    },
    {
      name: "Conv1D layout without bias",
      attributes: { layout: "in_out" },
      inputs: { x: { shape: [66, 34] }, w: { shape: [34, 70] } },
    },
    {
      name: "one row, one column",
      attributes: { layout: "out_in" },
      inputs: { x: { shape: [1, 1] }, w: { shape: [1, 1] }, bias: { shape: [1] } },
    },
    {
      name: "rows that can be split over bindings",
      attributes: { layout: "in_out" },
      inputs: { x: { shape: [96, 64] }, w: { shape: [64, 128] }, bias: { shape: [128] } },
    },
    {
      name: "BERT-base projection, 512 tokens",
      attributes: { layout: "out_in" },
      inputs: { x: { shape: [512, 768] }, w: { shape: [768, 768] }, bias: { shape: [768] } },
      bench: true,
    },
    {
      name: "square 1024",
      attributes: { layout: "in_out" },
      inputs: { x: { shape: [1024, 1024] }, w: { shape: [1024, 1024] } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "inner sizes differ",
      attributes: { layout: "out_in" },
      inputs: { x: { shape: [2, 3], dtype: "f32" }, w: { shape: [4, 5], dtype: "f32" } },
      message: /does not fit w \[4, 5\]/,
    },
    {
      name: "bias of another size",
      attributes: { layout: "in_out" },
      inputs: {
        x: { shape: [2, 3], dtype: "f32" },
        w: { shape: [3, 5], dtype: "f32" },
        bias: { shape: [3], dtype: "f32" },
      },
      message: /bias \[3\] does not fit 5 outputs/,
    },
  ],
});

function linearFlops(context: InferContext<LinearAttributes>): number {
  const size = linearSizes(context);
  return productFlops(size.rows, size.out, size.in);
}
