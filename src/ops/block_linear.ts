import { ShapeError } from "../base/errors";
import { columns, formatShape, rows } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext } from "../op/declaration";
import { bindRows, rowRanges } from "../op/launch";
import type { Launch } from "../op/launch";
import type { LinearAttributes } from "./linear";
import { blockProductLaunch } from "./shared/block-product";
import type { BlockOperand } from "./shared/block-product";
import { productFlops, productLaunches } from "./shared/product";

type Context = InferContext<LinearAttributes>;

/** Rows of x, the parts of each, and the sizes of a block of w. */
interface Sizes {
  readonly rows: number;
  readonly parts: number;
  readonly in: number;
  readonly out: number;
  /** Whether each part has a block of its own. */
  readonly areOwn: boolean;
}

function sizesOf(context: Context): Sizes {
  const [x, w] = [context.spec("x").shape, context.spec("w").shape];
  const block = w.slice(-2);
  const [inSize = 0, out = 0] = context.attributes.layout === "in_out" ? block : block.reverse();
  return { rows: rows(x), parts: columns(x) / inSize, in: inSize, out, areOwn: w.length === 3 && (w[0] ?? 1) > 1 };
}

const flops = (context: Context): number => {
  const size = sizesOf(context);
  return productFlops(size.rows * size.parts, size.out, size.in);
};

/** Launches of a table of parts of `to` columns = one of parts of `from` columns, times each block or its transpose. */
function rowLaunches(
  [source, target]: readonly [string, string],
  [from, to]: readonly [number, number],
  isTurned: boolean,
  context: LaunchContext<LinearAttributes>,
): Launch[] {
  const { accumulate, limits } = context;
  const { rows: count, parts, areOwn } = sizesOf(context);
  if (!areOwn) {
    const b = { slot: "w", transposed: isTurned };
    return productLaunches({ m: count * parts, n: to, k: from, a: { slot: source }, b, c: target, accumulate }, limits);
  }
  const w: BlockOperand = {
    range: { slot: "w", offset: 0, bytes: parts * from * to * 4 },
    block: from * to,
    ...(isTurned ? { row: 1, column: from } : { row: to }),
  };
  return rowRanges(count, [parts * from * 4, parts * to * 4], limits).map((range) => {
    const a = { range: bindRows(source, range, parts * from * 4), block: from, row: parts * from };
    const c = { range: bindRows(target, range, parts * to * 4), block: to, row: parts * to };
    return blockProductLaunch({ blocks: parts, m: range.count, n: to, k: from, a, b: w, c, accumulate });
  });
}

/** Launches of dw. */
function weightLaunches(context: LaunchContext<LinearAttributes>): Launch[] {
  const { accumulate, limits, attributes } = context;
  const size = sizesOf(context);
  const isOutFirst = attributes.layout === "out_in";
  const [first, second] = isOutFirst ? ["dy", "x"] : ["x", "dy"];
  const [m, n] = isOutFirst ? [size.out, size.in] : [size.in, size.out];
  if (!size.areOwn) {
    const a = { slot: first, transposed: true };
    return productLaunches({ m, n, k: size.rows * size.parts, a, b: { slot: second }, c: "dw", accumulate }, limits);
  }
  const c = { range: { slot: "dw", offset: 0, bytes: size.parts * m * n * 4 }, block: m * n, row: n };
  return rowRanges(size.rows, [size.parts * m * 4, size.parts * n * 4], limits).map((range, i) => {
    const a = { range: bindRows(first, range, size.parts * m * 4), block: m, row: 1, column: size.parts * m };
    const b = { range: bindRows(second, range, size.parts * n * 4), block: n, row: size.parts * n };
    return blockProductLaunch({ blocks: size.parts, m, n, k: range.count, a, b, c, accumulate: accumulate || i > 0 });
  });
}

/**
 * A product with a block-diagonal matrix: x [..., parts * in] is read as [..., parts, in], y [..., parts * out] likewise, and each part is
 * multiplied by a block of w, [parts, out, in] or [parts, in, out] by `layout`, or by one block for all, [out, in] or [in, out] with or
 * without a leading 1, as the second factor of a Kronecker product is. Nothing is copied.
 */
export const blockLinear = defineOp({
  name: "block_linear",
  inputs: { x: { gradient: true }, w: { gradient: true } },
  outputs: ["y"],
  infer(context: Context) {
    const [x, w] = [context.spec("x").shape, context.spec("w").shape];
    const size = sizesOf(context);
    const isWhole = x.length > 0 && Number.isInteger(size.parts);
    if (!isWhole || w.length < 2 || w.length > 3 || (size.areOwn && w[0] !== size.parts)) {
      throw new ShapeError(
        `block_linear: x ${formatShape(x)} has no parts that fit w ${formatShape(w)} stored as ${context.attributes.layout}.`,
        "The last axis of x must be as many times the block's input size as there are blocks, or any number of times one block's.",
      );
    }
    return { y: { shape: [...x.slice(0, -1), size.parts * size.out], dtype: "f32" } };
  },
  forward(context) {
    const size = sizesOf(context);
    return rowLaunches(["x", "y"], [size.in, size.out], context.attributes.layout === "out_in", context);
  },
  gradients: [
    {
      wrt: ["x"],
      reads: () => ["w"],
      accumulates: true,
      launches(context) {
        const size = sizesOf(context);
        return rowLaunches(["dy", "dx"], [size.out, size.in], context.attributes.layout === "in_out", context);
      },
      flops,
    },
    { wrt: ["w"], reads: () => ["x"], accumulates: true, launches: weightLaunches, flops },
  ],
  flops,
});
