import type { TestsOf } from "../op/declaration";
import { at, input } from "./shared/reference";
import type { cachedAttention, CachedAttentionAttributes } from "./cached_attention";

const base: CachedAttentionAttributes = { heads: 2, kvHeads: 2, scale: 0.5 };

export const cachedAttentionTests: TestsOf<typeof cachedAttention> = {
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
};
