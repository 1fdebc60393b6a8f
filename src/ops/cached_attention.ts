import kernel from "../../kernels/cached_attention.wgsl";
import { ShapeError } from "../base/errors";
import { columns, formatShape, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { SlotSpecs } from "../op/declaration";
import { bindRows, rowRanges } from "../op/launch";
import { cacheSizes, checkCacheBinding } from "./shared/cache";
import { at, input } from "./shared/reference";

const GROUP = 64;

export type CachedAttentionAttributes = {
  readonly heads: number;
  /** Key-value heads; fewer than `heads` for grouped-query attention. */
  readonly kvHeads: number;
  /** Factor of the scores, usually 1 / sqrt(head size). */
  readonly scale: number;
};

const sizes = (context: SlotSpecs) => cacheSizes("cached_attention", context, "q", "k");

const base: CachedAttentionAttributes = { heads: 2, kvHeads: 2, scale: 0.5 };

/**
 * Causal attention of new tokens to a cache that holds their keys and values and those of all earlier tokens. If q has
 * more columns than heads * d, the first ones are used. q [b, t, heads * d or more],
 * k and v [rows, capacity, kvHeads * d], owners i32 [b, capacity] (the cache row that holds each position of each text),
 * starts i32 [b] (position of the first query in each text); y [b, t, heads * d].
 */
export const cachedAttention = defineOp<CachedAttentionAttributes>({
  name: "cached_attention",
  inputs: { q: {}, k: {}, v: {}, owners: { dtype: "i32" }, starts: { dtype: "i32" } },
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
    return { y: { shape: [q[0]!, q[1]!, queryWidth], dtype: "f32" } };
  },
  forward(context) {
    checkCacheBinding("cached_attention", context, "k");
    const { heads, kvHeads, scale } = context.attributes;
    const { capacity, width } = sizes(context);
    const head = width / kvHeads;
    const [batch = 0, time = 0, row = 0] = context.spec("q").shape;
    const [queryBytes, outputBytes] = [time * row * 4, time * heads * head * 4];
    return rowRanges(batch, [queryBytes, outputBytes], context.limits).map((range) => ({
      kernel,
      entry: "forward",
      bindings: {
        q: bindRows("q", range, queryBytes),
        y: bindRows("y", range, outputBytes),
        k: "k",
        v: "v",
        owners: "owners",
        starts: "starts",
      },
      params: {
        batch: range.count,
        batch0: range.start,
        time,
        capacity,
        heads,
        kv_heads: kvHeads,
        row,
        scale,
      },
      constants: { HEAD: head, GROUP, PER_INVOCATION: Math.ceil(head / GROUP) },
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
  reference(inputs, { heads, kvHeads, scale }) {
    const [q, k, v] = [input(inputs, "q"), input(inputs, "k"), input(inputs, "v")];
    const [batch = 0, time = 0, row = 0] = q.shape;
    const [, capacity = 0, width = 0] = k.shape;
    const head = width / kvHeads;
    const y = new Float64Array(batch * time * heads * head);
    for (let b = 0; b < batch; b++) {
      for (let i = 0; i < time; i++) {
        const end = Math.min(capacity, at(input(inputs, "starts"), b) + i + 1);
        const tokenOffsets = Array.from(
          { length: end },
          (_, j) => (at(input(inputs, "owners"), b * capacity + j) * capacity + j) * width,
        );
        for (let h = 0; h < heads; h++) {
          const kv = Math.floor((h * kvHeads) / heads) * head;
          const scores = tokenOffsets.map((offset) => {
            let score = 0;
            for (let c = 0; c < head; c++) score += at(q, (b * time + i) * row + h * head + c) * at(k, offset + kv + c);
            return score * scale;
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
