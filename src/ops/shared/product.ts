import kernel from "../../../kernels/product.wgsl";
import type { Dtype } from "../../base/dtype";
import { quantisedRow, rowBytes as storedRowBytes, WEIGHT_FORMATS } from "../../base/packed";
import type { WeightFormat } from "../../base/packed";
import { bindRows, rowRanges } from "../../op/launch";
import type { Launch, RowRange, SlotRange } from "../../op/launch";
import type { Limits } from "../../op/limits";
import { portableTile, productVariants } from "./product-variants";
import type { OperandLayout, ProductEntry } from "./product-variants";

export { productFlops } from "./product-variants";

const FLOAT_BYTES = 4;

/** A matrix operand. */
export interface Operand {
  readonly slot: string;
  /** Whether the transpose of the matrix is stored; default false. */
  readonly transposed?: boolean;
  /** Storage format, a weight format; default f32. Only b may have another. */
  readonly format?: Dtype;
  /** The element of the slot at which the matrix begins; default 0. Only in f32. */
  readonly first?: number;
}

/** Dropout of one matrix of a product. */
export interface ProductDropout {
  /** The matrix that is dropped: a, b, or the low-rank term. */
  readonly on: "a" | "b" | "lowRank";
  /** Probability that an element is dropped. */
  readonly probability: number;
  readonly salt: number;
  /** Rows of the dropped matrix in each text. Each text has a seed. */
  readonly textRows: number;
}

/** The product c [m, n] (+)= a [m, k] b [k, n] (+ bias [n]) (+ scale * z [m, rank] l [rank, n]). */
export interface Product {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly a: Operand;
  readonly b: Operand;
  readonly c: string;
  /** The element of c's slot at which it begins, for a product without bias and low-rank term; default 0. */
  readonly cFirst?: number;
  readonly bias?: string | undefined;
  readonly lowRank?: { readonly rank: number; readonly z: string; readonly l: Operand; readonly scale: number };
  readonly dropout?: ProductDropout | undefined;
  /** Factor of c, for a product without bias and low-rank term; default 1. */
  readonly factor?: number;
  /** Whether to add to c instead of overwriting it. */
  readonly accumulate: boolean;
}

/** The launches of a product; several if an operand exceeds a binding. */
export function productLaunches(product: Product, given: Limits): Launch[] {
  const { m, n, k, a, b } = product;
  const rowBytes = {
    a: (a.transposed ? m : k) * FLOAT_BYTES,
    b: storedRowBytes(formatOf(b), b.transposed ? k : n),
    c: n * FLOAT_BYTES,
    z: (product.lowRank?.rank ?? 1) * FLOAT_BYTES,
  };
  const mBytes = [rowBytes.c, ...(a.transposed ? [] : [rowBytes.a]), ...(product.lowRank ? [rowBytes.z] : [])];
  const kBytes = [...(a.transposed ? [rowBytes.a] : []), ...(b.transposed ? [] : [rowBytes.b])];
  const launches: Launch[] = [];
  // A matrix that begins between two places where a binding may start is bound from the one before it.
  const isWithin = [a.first, b.first, product.cFirst].some((first) => first !== undefined);
  const limits = isWithin ? { ...given, bindingBytes: given.bindingBytes - given.offsetAlignment } : given;
  for (const rows of rowRanges(m, mBytes, limits)) {
    for (const columns of b.transposed ? rowRanges(n, [rowBytes.b], limits) : [{ start: 0, count: n }]) {
      for (const inner of kBytes.length ? rowRanges(k, kBytes, limits) : [{ start: 0, count: k }]) {
        launches.push(productLaunch(product, rowBytes, rows, columns, inner, limits.offsetAlignment));
      }
    }
  }
  return launches;
}

/** Rows of a matrix that begins at an element of a slot: what is bound, and the element of it at which the rows begin. */
function matrixRows(slot: string, rows: RowRange, rowBytes: number, first = 0, alignment: number) {
  const { offset, bytes } = bindRows(slot, rows, rowBytes);
  const start = first % (alignment / FLOAT_BYTES);
  const range = { slot, offset: offset + (first - start) * FLOAT_BYTES, bytes: bytes + start * FLOAT_BYTES };
  return { range, start };
}

function productLaunch(
  product: Product,
  rowBytes: { a: number; b: number; c: number; z: number },
  rows: RowRange,
  columns: RowRange,
  inner: RowRange,
  alignment: number,
): Launch {
  const { m, n, k, a, b, lowRank, dropout } = product;
  // The bias and the low-rank term are added once, with the first part of the sum over k.
  const isFirst = inner.start === 0;
  const withLowRank = isFirst ? lowRank : undefined;
  const withBias = isFirst ? product.bias : undefined;
  const places = {
    a: matrixRows(a.slot, a.transposed ? inner : rows, rowBytes.a, a.first, alignment),
    b: matrixRows(b.slot, b.transposed ? columns : inner, rowBytes.b, b.first, alignment),
    c: matrixRows(product.c, rows, rowBytes.c, product.cFirst, alignment),
  };
  const bindings: Record<string, string | SlotRange> = {
    a: places.a.range,
    b: places.b.range,
    c: places.c.range,
    ...(withBias ? { bias: withBias } : {}),
    ...(withLowRank ? { z: bindRows(withLowRank.z, rows, rowBytes.z), l: withLowRank.l.slot } : {}),
    ...(dropout && (dropout.on !== "lowRank" || withLowRank) ? { seed: "seed" } : {}),
  };
  const size = { m: rows.count, n: columns.count, k: inner.count };
  const entry = entryName(withLowRank !== undefined, withBias !== undefined, dropout);
  const format = formatOf(b);
  const tile = portableTile(size);
  const aLayout: OperandLayout = {
    start: places.a.start + (a.transposed ? rows.start : inner.start),
    ...(a.transposed ? { alongK: m, acrossK: 1 } : { alongK: 1, acrossK: k }),
    bytes: places.a.range.bytes,
  };
  const bLayout: OperandLayout = {
    start: places.b.start + (b.transposed ? inner.start : columns.start),
    ...(b.transposed ? { alongK: 1, acrossK: k } : { alongK: n, acrossK: 1 }),
    bytes: places.b.range.bytes,
  };
  const row0 = dropout?.on === "b" ? inner.start : rows.start;
  return {
    kernel,
    entry,
    bindings,
    params: {
      m: rows.count,
      n: columns.count,
      k: inner.count,
      a_start: aLayout.start,
      a_row: aLayout.acrossK,
      a_column: aLayout.alongK,
      b_start: bLayout.start,
      b_row: bLayout.alongK,
      b_column: bLayout.acrossK,
      ...storedRow(b, b.transposed ? k : n),
      c_row: n,
      column0: places.c.start + columns.start,
      accumulate: product.accumulate || !isFirst ? 1 : 0,
      rank: withLowRank?.rank ?? 0,
      z_row: withLowRank?.rank ?? 0,
      z_column: 1,
      l_row: withLowRank?.l.transposed ? 1 : n,
      l_column: withLowRank?.l.transposed ? withLowRank.rank : 1,
      scale: withLowRank?.scale ?? 0,
      factor: product.factor ?? 1,
      ...dropoutParams(dropout?.probability ?? 0, dropout?.salt ?? 0),
      row0,
      text_rows: dropout?.textRows ?? 1,
    },
    constants: { FORMAT: WEIGHT_FORMATS.indexOf(format), ...tile.constants },
    workgroups: tile.workgroups,
    variants: productVariants(
      {
        size,
        entry,
        a: aLayout,
        b: bLayout,
        c: { start: places.c.start + columns.start, row: n },
        lowRank: withLowRank && {
          rank: withLowRank.rank,
          zBytes: rows.count * rowBytes.z,
          isTransposed: withLowRank.l.transposed ?? false,
          lBytes: withLowRank.rank * n * FLOAT_BYTES,
        },
        format,
      },
      kernel,
    ),
    shape: {
      sizes: size,
      traits: [format, ...(a.transposed ? ["a^T"] : []), ...(b.transposed ? ["b^T"] : [])],
    },
  };
}

/** The format of a weight, of which the tape has checked that it is one of its slot's `formats`. */
export const weightFormat = (dtype: Dtype): WeightFormat => dtype as WeightFormat;

const formatOf = ({ format = "f32" }: Operand): WeightFormat => weightFormat(format);

/** Params that say where codes and scales are in the rows of a quantised b. */
export function storedRow(b: Operand, columns: number): Record<string, number> {
  const format = formatOf(b);
  const words = format === "int8" || format === "nf4" ? quantisedRow(format, columns) : { codes: 0, total: 0 };
  return { b_transposed: b.transposed ? 1 : 0, b_words: words.total, b_codes: words.codes };
}

function entryName(lowRank: boolean, bias: boolean, dropout: ProductDropout | undefined): ProductEntry {
  if (dropout?.on === "a") return "dropped_a";
  if (dropout?.on === "b") return "dropped_b";
  if (dropout?.on === "lowRank" && lowRank) return "low_rank_dropped";
  return lowRank ? (bias ? "low_rank_with_bias" : "low_rank") : bias ? "with_bias" : "plain";
}

/** Params of every kernel with dropout. An element is kept if its 32 random bits are below `keep_threshold`. */
export function dropoutParams(probability: number, salt: number): Record<string, number> {
  return {
    salt,
    keep_threshold: Math.min(0xffffffff, Math.round((1 - probability) * 0x100000000)),
    keep_scale: 1 / (1 - probability),
  };
}
