import kernel from "../../../kernels/block_product.wgsl";
import type { Launch, SlotRange } from "../../op/launch";

/** Rows and columns of a tile of block_product.wgsl. */
const TILE = 32;

/** A matrix of each block: what is bound, and the distances in elements between blocks, rows and neighbours in a row. */
export interface BlockOperand {
  readonly range: SlotRange;
  readonly block: number;
  readonly row: number;
  /** Default 1. */
  readonly column?: number;
}

/** The products c [m, n] (+)= a [m, k] b [k, n] of blocks, or c = factor a b + plus.factor d. Neighbours in a row of c lie side by side. */
export interface BlockProduct {
  readonly blocks: number;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly a: BlockOperand;
  readonly b: BlockOperand;
  readonly c: BlockOperand;
  readonly accumulate?: boolean;
  /** Factor of the products; default 1. */
  readonly factor?: number;
  /** What is added, in the layout of c. */
  readonly plus?: { readonly range: SlotRange; readonly factor: number };
}

/** The launch of all products. */
export function blockProductLaunch(product: BlockProduct): Launch {
  const { blocks, m, n, k, a, b, c, accumulate = false, factor = 1, plus } = product;
  return {
    kernel,
    entry: plus ? "plus" : "product",
    bindings: { a: a.range, b: b.range, c: c.range, ...(plus && { d: plus.range }) },
    params: {
      blocks,
      m,
      n,
      k,
      a_block: a.block,
      a_row: a.row,
      a_column: a.column ?? 1,
      b_block: b.block,
      b_row: b.row,
      b_column: b.column ?? 1,
      c_block: c.block,
      c_row: c.row,
      accumulate: accumulate ? 1 : 0,
      product_factor: factor,
      d_factor: plus?.factor ?? 0,
    },
    workgroups: blocks * Math.ceil(m / TILE) * Math.ceil(n / TILE),
  };
}
