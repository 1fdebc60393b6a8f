import kernel from "../../kernels/cached_attention.wgsl";
import tablePart from "../../kernels/lib/relative_table.wgsl";
import { ShapeError } from "../base/errors";
import { columns, formatShape, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { SlotSpecs } from "../op/declaration";
import type { Kernel } from "../op/kernel";
import { bindRows, rowRanges } from "../op/launch";
import { cacheSizes, checkCacheBinding } from "./shared/cache";
import { at, input } from "./shared/reference";

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

const base: CachedAttentionAttributes = { heads: 2, kvHeads: 2, scale: 0.5 };

/**
 * Attention of new tokens to a cache that holds their keys and values and those of earlier tokens, or, in cross-attention
 * (not `causal`), those of another sequence. If q has more columns than heads * d, the first ones are used.
 * q [b, t, heads * d or more], k and v [rows, ring, kvHeads * d] (position p in p % ring; a ring shorter than the texts needs
 * room for `before` and all tokens that are appended at once), owners i32 [b, capacity] (the cache row that holds each position
 * of each text, -1 for a position that is hidden), starts i32 [b] (position of the first query in each text), relative
 * [entries, heads] (numbers that are added to the capped scores, as in `attention`: entry i - j + (entries - 1) / 2 is that of
 * positions i and j); y [b, t, heads * d].
 */
export const cachedAttention = defineOp<CachedAttentionAttributes>({
  name: "cached_attention",
  inputs: { q: {}, k: {}, v: {}, owners: { dtype: "i32" }, starts: { dtype: "i32" }, relative: { optional: true } },
  outputs: ["y"],
  infer(context) {
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
  reference(inputs, { heads, kvHeads, scale, causal = true, before = Infinity, cap }) {
    const [q, k, v] = [input(inputs, "q"), input(inputs, "k"), input(inputs, "v")];
    const [batch = 0, time = 0, row = 0] = q.shape;
    const [, ring = 0, width = 0] = k.shape;
    const [, capacity = 0] = input(inputs, "owners").shape;
    const table = inputs["relative"];
    const head = width / kvHeads;
    const y = new Float64Array(batch * time * heads * head);
    for (let b = 0; b < batch; b++) {
      for (let i = 0; i < time; i++) {
        const position = at(input(inputs, "starts"), b) + i;
        const first = causal ? Math.max(0, position - before) : 0;
        const end = causal ? Math.min(capacity, position + 1) : capacity;
        const keys = Array.from({ length: end - first }, (_, n) => first + n).filter(
          (j) => at(input(inputs, "owners"), b * capacity + j) >= 0,
        );
        const tokenOffsets = keys.map(
          (j) => (at(input(inputs, "owners"), b * capacity + j) * ring + (j % ring)) * width,
        );
        for (let h = 0; h < heads; h++) {
          const kv = Math.floor((h * kvHeads) / heads) * head;
          const scores = tokenOffsets.map((offset, n) => {
            let score = 0;
            for (let c = 0; c < head; c++) score += at(q, (b * time + i) * row + h * head + c) * at(k, offset + kv + c);
            score *= scale;
            if (cap !== undefined) score = cap * Math.tanh(score / cap);
            if (!table) return score;
            return score + at(table, ((table.shape[0]! - 1) / 2 + position - keys[n]!) * heads + h);
          });
          const largest = Math.max(...scores);
          const weights = scores.map((score) => Math.exp(score - largest));
          const total = weights.reduce((sum, weight) => sum + weight, 0);
          for (let c = 0; c < head; c++) {
            const sum = weights.reduce((partial, weight, j) => partial + weight * at(v, tokenOffsets[j]! + kv + c), 0);
            y[((b * time + i) * heads + h) * head + c] = sum / total;
          }
        }
      }
    }
    return { y: { shape: [batch, time, heads * head], data: y } };
  },
  cases: [
    {
      name: "one token of fused q, k, v; beams that share positions; odd head size",
      attributes: base,
      inputs: {
        q: { shape: [3, 1, 30] },
        k: { shape: [4, 6, 10] },
        v: { shape: [4, 6, 10] },
        owners: { shape: [3, 6], values: [0, 0, 1, 3, 0, 0, 0, 0, 1, 1, 0, 0, 2, 2, 2, 2, 2, 2] },
        starts: { shape: [3], values: [3, 2, 5] },
      },
    },
    {
      name: "a prompt, grouped queries, more keys than a tile",
      attributes: { heads: 4, kvHeads: 2, scale: 0.3 },
      inputs: {
        q: { shape: [2, 40, 12] },
        k: { shape: [2, 150, 6] },
        v: { shape: [2, 150, 6] },
        owners: { shape: [2, 150], values: Array.from({ length: 300 }, (_, i) => (i < 150 ? 1 : 0)) },
        starts: { shape: [2], values: [100, 0] },
      },
    },
    {
      name: "heads wider than a workgroup",
      attributes: { heads: 1, kvHeads: 1, scale: 0.1 },
      inputs: {
        q: { shape: [1, 2, 80] },
        k: { shape: [1, 3, 80] },
        v: { shape: [1, 3, 80] },
        owners: { shape: [1, 3], values: [0, 0, 0] },
        starts: { shape: [1], values: [1] },
      },
    },
    {
      name: "a window in a ring, capped, grouped queries",
      attributes: { heads: 4, kvHeads: 2, scale: 0.4, before: 70, cap: 1.5 },
      inputs: {
        q: { shape: [2, 3, 32] },
        k: { shape: [2, 75, 16] },
        v: { shape: [2, 75, 16] },
        owners: { shape: [2, 200], values: Array.from({ length: 400 }, (_, i) => (i < 200 ? 1 : 0)) },
        starts: { shape: [2], values: [150, 20] },
      },
    },
    {
      name: "a number for each distance",
      attributes: base,
      inputs: {
        q: { shape: [2, 3, 12] },
        k: { shape: [2, 20, 12] },
        v: { shape: [2, 20, 12] },
        relative: { shape: [39, 2] },
        owners: { shape: [2, 20], below: 2 },
        starts: { shape: [2], values: [4, 17] },
      },
    },
    {
      name: "cross-attention of two beams of a text, with padding",
      attributes: { ...base, causal: false },
      inputs: {
        q: { shape: [4, 2, 12] },
        k: { shape: [2, 70, 12] },
        v: { shape: [2, 70, 12] },
        owners: {
          shape: [4, 70],
          values: Array.from({ length: 280 }, (_, i) => (i % 70 < 66 ? Math.floor(i / 140) : -1)),
        },
        starts: { shape: [4], values: [5, 5, 0, 1] },
      },
    },
    {
      name: "batch that can be split over bindings",
      attributes: base,
      inputs: {
        q: { shape: [64, 2, 64] },
        k: { shape: [8, 9, 64] },
        v: { shape: [8, 9, 64] },
        owners: { shape: [64, 9], below: 8 },
        starts: { shape: [64], values: Array.from({ length: 64 }, (_, i) => i % 8) },
      },
    },
    {
      name: "GPT-2, 10 beams, 256 tokens",
      attributes: { heads: 12, kvHeads: 12, scale: 0.125 },
      inputs: {
        q: { shape: [10, 1, 2304] },
        k: { shape: [10, 256, 768] },
        v: { shape: [10, 256, 768] },
        owners: { shape: [10, 256], below: 10 },
        starts: { shape: [10], values: Array.from({ length: 10 }, () => 255) },
      },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "heads that are not a multiple of the key-value heads",
      attributes: { heads: 3, kvHeads: 2, scale: 1 },
      inputs: {
        q: { shape: [2, 1, 12], dtype: "f32" },
        k: { shape: [2, 4, 8], dtype: "f32" },
        v: { shape: [2, 4, 8], dtype: "f32" },
        owners: { shape: [2, 4], dtype: "i32" },
        starts: { shape: [2], dtype: "i32" },
      },
      message: /do not fit 3 heads over 2/,
    },
    {
      name: "starts of another batch",
      attributes: base,
      inputs: {
        q: { shape: [2, 1, 8], dtype: "f32" },
        k: { shape: [2, 4, 8], dtype: "f32" },
        v: { shape: [2, 4, 8], dtype: "f32" },
        owners: { shape: [2, 4], dtype: "i32" },
        starts: { shape: [3], dtype: "i32" },
      },
      message: /starts \[3\] do not fit/,
    },
  ],
});
