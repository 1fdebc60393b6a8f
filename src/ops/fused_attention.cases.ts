import type { TestsOf } from "../op/declaration";
import { seeds } from "./attention.cases";
import { attentionReference } from "./shared/attention.cases";
import type { AttentionAttributes } from "./shared/attention";
import { at, input } from "./shared/reference";
import { layoutOf } from "./fused_attention";
import type { fusedAttention } from "./fused_attention";

const both: AttentionAttributes = { heads: 2, kvHeads: 2, scale: 0.5, dropout: 0, salt: 0 };

const base: AttentionAttributes = { ...both, after: 0 };

export const fusedAttentionTests: TestsOf<typeof fusedAttention> = {
  reference(inputs, attributes) {
    const qkv = input(inputs, "qkv");
    const shape = layoutOf(qkv.shape, attributes);
    const read = (operand: "q" | "k" | "v", batch: number, row: number, head: number, column: number): number =>
      at(qkv, (batch * shape.time + row) * shape.q.row + shape[operand].offset + head * shape.head + column);
    return attentionReference(shape, attributes, read, input(inputs, "mask"), input(inputs, "seed"));
  },
  cases: [
    {
      name: "causal with padding, odd head size",
      attributes: base,
      inputs: {
        qkv: { shape: [2, 9, 30] },
        seed: seeds(2),
        mask: { shape: [2, 9], values: Array.from({ length: 18 }, (_, i) => (i < 14 ? 1 : 0)) },
      },
    },
    {
      name: "both directions, dropout",
      attributes: { ...both, dropout: 0.2, salt: 4 },
      inputs: {
        qkv: { shape: [1, 33, 24] },
        seed: seeds(1),
        mask: { shape: [1, 33], values: Array.from({ length: 33 }, () => 1) },
      },
    },
    {
      name: "dropout, enough texts for a joint launch of all gradients",
      attributes: { ...both, heads: 1, kvHeads: 1, dropout: 0.2, salt: 6 },
      inputs: {
        qkv: { shape: [16, 40, 12] },
        seed: seeds(16),
        mask: { shape: [16, 40], values: Array.from({ length: 640 }, (_, i) => (i % 40 < 38 ? 1 : 0)) },
      },
    },
    {
      name: "window on both sides, enough texts for a joint launch of all gradients",
      attributes: { ...both, heads: 2, kvHeads: 2, before: 9, after: 6 },
      inputs: {
        qkv: { shape: [8, 48, 24] },
        seed: seeds(8),
        mask: { shape: [8, 48], values: Array.from({ length: 384 }, (_, i) => (i % 48 < 43 ? 1 : 0)) },
      },
    },
    {
      name: "batch that can be split over bindings",
      attributes: base,
      inputs: {
        qkv: { shape: [64, 2, 48] },
        seed: seeds(64),
        mask: { shape: [64, 2], values: Array.from({ length: 128 }, () => 1) },
      },
    },
    {
      name: "GPT-2, 2 x 256",
      attributes: { ...base, heads: 12, kvHeads: 12, scale: 0.125 },
      inputs: {
        qkv: { shape: [2, 256, 2304] },
        seed: seeds(2),
        mask: { shape: [2, 256], values: Array.from({ length: 512 }, () => 1) },
      },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "width that is not three times the heads",
      attributes: base,
      inputs: {
        qkv: { shape: [2, 3, 8], dtype: "f32" },
        mask: { shape: [2, 3], dtype: "i32" },
        seed: { shape: [2, 2], dtype: "u32" },
      },
      message: /does not fit q, k and v of 2 heads/,
    },
  ],
};
