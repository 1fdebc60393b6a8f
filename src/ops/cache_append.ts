import kernel from "../../kernels/cache_append.wgsl";
import { ShapeError } from "../base/errors";
import { columns, formatShape, rows } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, SlotSpecs } from "../op/declaration";
import { elementKernel, elementWorkgroups } from "../op/element";
import { bindRows, rowRanges } from "../op/launch";
import { cacheSizes, checkCacheBinding } from "./shared/cache";

export type CacheAppendAttributes = {
  /** First column of x that is copied. The width of the cache decides how many are. */
  readonly offset: number;
};

const sizes = (context: SlotSpecs) => cacheSizes("cache_append", context, "x", "cache");

/**
 * Writes the keys or values of new tokens into a cache, in place, at the next positions of their texts: position p in
 * p % ring. Tokens beyond the capacity are dropped. x [b, t, d or more], cache [rows, ring, d], owners i32 [b, capacity] (the
 * cache row that holds each position of each text, -1 for a token that is dropped), starts i32 [b] (position of the first
 * token of x in each text).
 */
export const cacheAppend = defineOp({
  name: "cache_append",
  inputs: { x: {}, cache: { mutated: true }, owners: { dtype: "i32" }, starts: { dtype: "i32" } },
  outputs: [],
  infer(context: InferContext<CacheAppendAttributes>) {
    const { width } = sizes(context);
    const { shape } = context.spec("x");
    if (context.attributes.offset + width <= columns(shape)) return {};
    throw new ShapeError(
      `cache_append: x ${formatShape(shape)} does not have ${width} columns from column ${context.attributes.offset}.`,
      "Pass a cache with the width of the keys or values.",
    );
  },
  forward(context) {
    checkCacheBinding("cache_append", context, "cache");
    const { capacity, ring, width } = sizes(context);
    const { shape } = context.spec("x");
    const row = columns(shape);
    const { offset } = context.attributes;
    const element = elementKernel(kernel, [width, row, offset]);
    const { WIDTH } = element.constants;
    return rowRanges(rows(shape), [row * 4], context.limits).map((range) => ({
      ...element,
      entry: "forward",
      bindings: { x: bindRows("x", range, row * 4), cache: "cache", owners: "owners", starts: "starts" },
      params: {
        count: (range.count * width) / WIDTH,
        row0: range.start,
        row: row / WIDTH,
        offset: offset / WIDTH,
        width: width / WIDTH,
        time: shape[1]!,
        capacity,
        ring,
      },
      workgroups: elementWorkgroups(range.count * width, element),
    }));
  },
  gradients: [],
  flops: () => 0,
});
