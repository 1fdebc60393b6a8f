import kernel from "../../kernels/cached_attention.wgsl";
import tablePart from "../../kernels/lib/relative_table.wgsl";
import { ShapeError } from "../base/errors";
import { columns, formatShape, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, SlotSpecs } from "../op/declaration";
import type { Kernel } from "../op/kernel";
import { bindRows, rowRanges } from "../op/launch";
import { cacheSizes, checkCacheBinding } from "./shared/cache";

const GROUP = 64;

/** The kernel for attention with a table. */
const kernelWithTable: Kernel = { ...kernel, substitutes: { "lib/relative": tablePart } };

export type CachedAttentionAttributes = {
  readonly heads: number;
  /** Key-value heads; fewer than `heads` for grouped-query attention. */
  readonly kvHeads: number;
  /** Factor of the scores, usually 1 / sqrt(head size). */
  readonly scale: number;
  /** Whether a query sees keys of its own position and earlier ones, or all; default true. */
  readonly causal?: boolean;
  /** Number of keys before its own position that a causal query sees; all if absent. */
  readonly before?: number;
  /** Soft cap of the scores: cap * tanh(score / cap); none if absent. */
  readonly cap?: number;
};

const sizes = (context: SlotSpecs) => cacheSizes("cached_attention", context, "q", "k");

/**
 * Attention of new tokens to a cache that holds their keys and values and those of earlier tokens, or, in cross-attention
 * (not `causal`), those of another sequence. If q has more columns than heads * d, the first ones are used.
 * q [b, t, heads * d or more], k and v [rows, ring, kvHeads * d] (position p in p % ring; a ring shorter than the texts needs
 * room for `before` and all tokens that are appended at once), owners i32 [b, capacity] (the cache row that holds each position
 * of each text, -1 for a position that is hidden), starts i32 [b] (position of the first query in each text), relative
 * [entries, heads] (numbers that are added to the capped scores, as in `attention`: entry i - j + (entries - 1) / 2 is that of
 * positions i and j); y [b, t, heads * d].
 */
export const cachedAttention = defineOp({
  name: "cached_attention",
  inputs: { q: {}, k: {}, v: {}, owners: { dtype: "i32" }, starts: { dtype: "i32" }, relative: { optional: true } },
  outputs: ["y"],
  infer(context: InferContext<CachedAttentionAttributes>) {
    const { heads, kvHeads } = context.attributes;
    const { width } = sizes(context);
    const [q, k, v] = [context.spec("q").shape, context.spec("k").shape, context.spec("v").shape];
    const queryWidth = (width / kvHeads) * heads;
    if (width % kvHeads !== 0 || heads % kvHeads !== 0 || columns(q) < queryWidth || !sameShape(k, v)) {
      throw new ShapeError(
        `cached_attention: q ${formatShape(q)}, k ${formatShape(k)}, v ${formatShape(v)} do not fit ${heads} heads over ${kvHeads}.`,
        "Pass q [b, t, heads * d], k and v [rows, capacity, kvHeads * d], with heads a multiple of kvHeads.",
      );
    }
    const table = context.has("relative") ? context.spec("relative").shape : undefined;
    const { capacity } = sizes(context);
    if (table && !(sameShape(table, [table[0]!, heads]) && table[0]! % 2 === 1 && table[0]! >= 2 * capacity - 1)) {
      throw new ShapeError(
        `cached_attention: the table ${formatShape(table)} does not fit ${capacity} positions and ${heads} heads.`,
        "Pass numbers [entries, heads] with an odd number of entries, at least 2 * capacity - 1.",
      );
    }
    return { y: { shape: [q[0]!, q[1]!, queryWidth], dtype: "f32" } };
  },
  forward(context) {
    checkCacheBinding("cached_attention", context, "k");
    const { heads, kvHeads, scale, causal = true, cap = 0 } = context.attributes;
    const { capacity, ring, width } = sizes(context);
    const before = Math.min(context.attributes.before ?? capacity, capacity);
    const entries = context.has("relative") ? context.spec("relative").shape[0]! : 0;
    const head = width / kvHeads;
    const [batch = 0, time = 0, row = 0] = context.spec("q").shape;
    const [queryBytes, outputBytes] = [time * row * 4, time * heads * head * 4];
    return rowRanges(batch, [queryBytes, outputBytes], context.limits).map((range) => ({
      kernel: entries > 0 ? kernelWithTable : kernel,
      entry: "forward",
      bindings: {
        q: bindRows("q", range, queryBytes),
        y: bindRows("y", range, outputBytes),
        k: "k",
        v: "v",
        owners: "owners",
        starts: "starts",
        ...(entries > 0 && { relative: "relative" }),
      },
      params: {
        batch: range.count,
        batch0: range.start,
        time,
        capacity,
        ring,
        heads,
        kv_heads: kvHeads,
        row,
        causal: causal ? 1 : 0,
        before,
        center: Math.max(0, entries - 1) / 2,
        scale,
        cap,
      },
      constants: {
        HEAD: head,
        GROUP,
        PER_INVOCATION: Math.ceil(head / GROUP),
        ...(entries > 0 && { RELATIVE: 1 }),
      },
      workgroups: range.count * time * heads,
    }));
  },
  gradients: [],
  // An upper bound: how many tokens a text has in the cache is not known when the plan is made.
  flops(context) {
    const [batch = 0, time = 0] = context.spec("q").shape;
    const { capacity, width } = sizes(context);
    const { heads, kvHeads } = context.attributes;
    return (4 * batch * time * heads * capacity * width) / kvHeads;
  },
});
