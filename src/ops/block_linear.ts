import { ShapeError } from "../base/errors";
import { columns, elements, formatShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext } from "../op/declaration";
import type { LinearAttributes } from "./linear";
import { productFlops, productLaunches } from "./shared/product";

type Context = InferContext<LinearAttributes>;

/** Parts of all rows of x together, and the sizes of w. */
function sizesOf(context: Context): { readonly parts: number; readonly in: number; readonly out: number } {
  const { shape } = context.spec("w");
  const [inSize = 0, out = 0] = context.attributes.layout === "in_out" ? shape : shape.slice().reverse();
  return { parts: elements(context.spec("x").shape) / inSize, in: inSize, out };
}

const flops = (context: Context): number => {
  const size = sizesOf(context);
  return productFlops(size.parts, size.out, size.in);
};

/**
 * The same projection of every part of a row: x [..., parts * in] is read as [..., parts, in], y [..., parts * out] likewise, and each part
 * is multiplied by w [out, in] or [in, out], by `layout`. It is a product with a block-diagonal matrix of equal blocks, as the second factor
 * of a Kronecker product is. Nothing is copied.
 */
export const blockLinear = defineOp({
  name: "block_linear",
  inputs: { x: { gradient: true }, w: { gradient: true } },
  outputs: ["y"],
  infer(context: Context) {
    const [x, w] = [context.spec("x").shape, context.spec("w").shape];
    const size = sizesOf(context);
    if (w.length !== 2 || x.length === 0 || columns(x) % size.in !== 0) {
      throw new ShapeError(
        `block_linear: x ${formatShape(x)} has no parts that fit w ${formatShape(w)} stored as ${context.attributes.layout}.`,
        "The last axis of x must be a multiple of the weight's input size.",
      );
    }
    return { y: { shape: [...x.slice(0, -1), (columns(x) / size.in) * size.out], dtype: "f32" } };
  },
  forward(context) {
    const size = sizesOf(context);
    const b = { slot: "w", transposed: context.attributes.layout === "out_in" };
    const product = { m: size.parts, n: size.out, k: size.in, a: { slot: "x" }, b, c: "y", accumulate: false };
    return productLaunches(product, context.limits);
  },
  gradients: [
    {
      wrt: ["x"],
      reads: () => ["w"],
      accumulates: true,
      launches(context) {
        const size = sizesOf(context);
        const b = { slot: "w", transposed: context.attributes.layout === "in_out" };
        const { accumulate } = context;
        const product = { m: size.parts, n: size.in, k: size.out, a: { slot: "dy" }, b, c: "dx", accumulate };
        return productLaunches(product, context.limits);
      },
      flops,
    },
    {
      wrt: ["w"],
      reads: () => ["x"],
      accumulates: true,
      launches(context) {
        const size = sizesOf(context);
        const { accumulate, limits, attributes } = context;
        const isOutFirst = attributes.layout === "out_in";
        const [first, second] = isOutFirst ? ["dy", "x"] : ["x", "dy"];
        const [m, n] = isOutFirst ? [size.out, size.in] : [size.in, size.out];
        const a = { slot: first, transposed: true };
        return productLaunches({ m, n, k: size.parts, a, b: { slot: second }, c: "dw", accumulate }, limits);
      },
      flops,
    },
  ],
  flops,
});
