import type { ReferenceTensor, TestsOf } from "../op/declaration";
import { attentionReference } from "./shared/attention.cases";
import type { AttentionAttributes } from "./shared/attention";
import type { ReferenceTable } from "./shared/attention.cases";
import { at, input } from "./shared/reference";
import { layoutOf } from "./attention";
import type { attention } from "./attention";

/** The reference of attention whose q, k and v are tensors of their own. */
export function separateReference(
  inputs: Readonly<Record<string, ReferenceTensor>>,
  attributes: AttentionAttributes,
  relative?: ReferenceTable,
): Readonly<Record<"y" | "lse", ReferenceTensor>> {
  const tensors = { q: input(inputs, "q"), k: input(inputs, "k"), v: input(inputs, "v") };
  const shape = layoutOf(tensors.q.shape, tensors.k.shape, attributes);
  const read = (operand: "q" | "k" | "v", batch: number, row: number, head: number, column: number): number => {
    const rows = operand === "q" ? shape.time : shape.keys;
    return at(tensors[operand], (batch * rows + row) * shape[operand].row + head * shape.head + column);
  };
  return attentionReference(shape, attributes, read, input(inputs, "mask"), input(inputs, "seed"), relative);
}

const base: AttentionAttributes = { heads: 2, kvHeads: 2, scale: 0.5, dropout: 0, salt: 0 };

/** Seeds of `texts` texts. */
export const seeds = (texts: number) => ({
  shape: [texts, 2],
  values: Array.from({ length: 2 * texts }, (_, i) => 3 + i),
});

export const attentionTests: TestsOf<typeof attention> = {
  reference: (inputs, attributes) => separateReference(inputs, attributes),
  cases: [
    {
      name: "two heads with padding",
      attributes: base,
      inputs: {
        q: { shape: [2, 7, 10] },
        k: { shape: [2, 7, 10] },
        v: { shape: [2, 7, 10] },
        seed: seeds(2),
        mask: { shape: [2, 7], values: [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0] },
      },
    },
    {
      name: "causal, grouped queries, longer than a workgroup",
      attributes: { ...base, heads: 4, kvHeads: 2, after: 0 },
      inputs: {
        q: { shape: [1, 37, 48] },
        k: { shape: [1, 37, 24] },
        v: { shape: [1, 37, 24] },
        seed: seeds(1),
        mask: { shape: [1, 37], values: Array.from({ length: 37 }, (_, i) => (i < 33 ? 1 : 0)) },
      },
    },
    {
      name: "causal, grouped queries, enough texts for a joint launch of all gradients",
      attributes: { ...base, heads: 4, kvHeads: 2, after: 0 },
      inputs: {
        q: { shape: [8, 40, 16] },
        k: { shape: [8, 40, 8] },
        v: { shape: [8, 40, 8] },
        seed: seeds(8),
        mask: { shape: [8, 40], values: Array.from({ length: 320 }, (_, i) => (i % 40 < 36 ? 1 : 0)) },
      },
    },
    {
      name: "dropout",
      attributes: { ...base, dropout: 0.25, salt: 5 },
      inputs: {
        q: { shape: [2, 6, 8] },
        k: { shape: [2, 6, 8] },
        v: { shape: [2, 6, 8] },
        seed: seeds(2),
        mask: { shape: [2, 6], values: Array.from({ length: 12 }, () => 1) },
      },
    },
    {
      name: "sliding window longer than a tile, capped, grouped queries, segments, dropout",
      attributes: {
        ...base,
        heads: 2,
        kvHeads: 1,
        before: 20,
        after: 0,
        cap: 1.5,
        segments: true,
        dropout: 0.2,
        salt: 3,
      },
      inputs: {
        q: { shape: [1, 120, 8] },
        k: { shape: [1, 120, 4] },
        v: { shape: [1, 120, 4] },
        seed: seeds(1),
        mask: {
          shape: [1, 120],
          values: Array.from({ length: 120 }, (_, i) => (i % 40 === 7 ? 0 : 1 + Math.floor(i / 50))),
        },
      },
    },
    {
      name: "window on both sides, odd head size",
      attributes: { ...base, before: 5, after: 5 },
      inputs: {
        q: { shape: [2, 37, 10] },
        k: { shape: [2, 37, 10] },
        v: { shape: [2, 37, 10] },
        seed: seeds(2),
        mask: { shape: [2, 37], values: Array.from({ length: 74 }, (_, i) => (i < 70 ? 1 : 0)) },
      },
    },
    {
      name: "more keys than queries, with padding and dropout",
      attributes: { ...base, dropout: 0.1, salt: 8 },
      inputs: {
        q: { shape: [2, 9, 16] },
        k: { shape: [2, 70, 16] },
        v: { shape: [2, 70, 16] },
        seed: seeds(2),
        mask: { shape: [2, 70], values: Array.from({ length: 140 }, (_, i) => (i < 130 ? 1 : 0)) },
      },
    },
    {
      name: "fewer keys than queries, enough texts for a joint launch of all gradients",
      attributes: { ...base, heads: 4, kvHeads: 2 },
      inputs: {
        q: { shape: [8, 39, 16] },
        k: { shape: [8, 19, 8] },
        v: { shape: [8, 19, 8] },
        seed: seeds(8),
        mask: { shape: [8, 19], values: Array.from({ length: 152 }, (_, i) => (i % 19 < 17 ? 1 : 0)) },
      },
    },
    {
      name: "causal behind a prefix, grouped queries, padding, dropout, enough texts for a joint launch",
      attributes: { ...base, heads: 4, kvHeads: 2, after: 0, prefix: 5, dropout: 0.1, salt: 4 },
      inputs: {
        q: { shape: [8, 37, 16] },
        k: { shape: [8, 42, 8] },
        v: { shape: [8, 42, 8] },
        seed: seeds(8),
        mask: { shape: [8, 42], values: Array.from({ length: 336 }, (_, i) => (i % 42 < 39 ? 1 : 0)) },
      },
    },
    {
      name: "a window behind a prefix, part of which it still has",
      attributes: { ...base, before: 9, after: 0, prefix: 6, cap: 2 },
      inputs: {
        q: { shape: [2, 40, 8] },
        k: { shape: [2, 46, 8] },
        v: { shape: [2, 46, 8] },
        seed: seeds(2),
        mask: { shape: [2, 46], values: Array.from({ length: 92 }, () => 1) },
      },
    },
    {
      name: "segments with padding between them, causal",
      attributes: { ...base, after: 0, segments: true },
      inputs: {
        q: { shape: [2, 40, 8] },
        k: { shape: [2, 40, 8] },
        v: { shape: [2, 40, 8] },
        seed: seeds(2),
        mask: {
          shape: [2, 40],
          values: Array.from({ length: 80 }, (_, i) => [1, 1, 0, 2, 3][Math.floor((i % 40) / 8)]!),
        },
      },
    },
    {
      name: "one position",
      attributes: { ...base, heads: 1, kvHeads: 1 },
      inputs: {
        q: { shape: [1, 1, 3] },
        k: { shape: [1, 1, 3] },
        v: { shape: [1, 1, 3] },
        seed: seeds(1),
        mask: { shape: [1, 1], values: [1] },
      },
    },
    {
      name: "batch that can be split over bindings, with dropout",
      attributes: { ...base, dropout: 0.1, salt: 2 },
      inputs: {
        q: { shape: [64, 2, 64] },
        k: { shape: [64, 2, 64] },
        v: { shape: [64, 2, 64] },
        seed: seeds(64),
        mask: { shape: [64, 2], values: Array.from({ length: 128 }, (_, i) => (i % 7 === 1 ? 0 : 1)) },
      },
    },
    {
      name: "BERT-base, 4 x 128",
      attributes: { ...base, heads: 12, kvHeads: 12, scale: 0.125 },
      inputs: {
        q: { shape: [4, 128, 768] },
        k: { shape: [4, 128, 768] },
        v: { shape: [4, 128, 768] },
        seed: seeds(4),
        mask: { shape: [4, 128], values: Array.from({ length: 512 }, () => 1) },
      },
      bench: true,
    },
    {
      name: "Gemma 2's window and cap, packed texts, 1 x 512",
      attributes: { ...base, heads: 4, kvHeads: 2, before: 255, after: 0, cap: 50, segments: true, scale: 0.0625 },
      inputs: {
        q: { shape: [1, 512, 1024] },
        k: { shape: [1, 512, 512] },
        v: { shape: [1, 512, 512] },
        seed: seeds(1),
        mask: { shape: [1, 512], values: Array.from({ length: 512 }, (_, i) => 1 + Math.floor(i / 200)) },
      },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "width that the heads do not divide",
      attributes: { ...base, heads: 3, kvHeads: 3 },
      inputs: {
        q: { shape: [2, 3, 8], dtype: "f32" },
        k: { shape: [2, 3, 8], dtype: "f32" },
        v: { shape: [2, 3, 8], dtype: "f32" },
        mask: { shape: [2, 3], dtype: "i32" },
        seed: { shape: [2, 2], dtype: "u32" },
      },
      message: /do not fit 3 heads/,
    },
    {
      name: "mask of another length",
      attributes: base,
      inputs: {
        q: { shape: [2, 3, 8], dtype: "f32" },
        k: { shape: [2, 3, 8], dtype: "f32" },
        v: { shape: [2, 3, 8], dtype: "f32" },
        mask: { shape: [2, 4], dtype: "i32" },
        seed: { shape: [2, 2], dtype: "u32" },
      },
      message: /mask \[2, 4\] does not fit/,
    },
    {
      name: "a window across sequences of two lengths",
      attributes: { ...base, before: 2 },
      inputs: {
        q: { shape: [2, 3, 8], dtype: "f32" },
        k: { shape: [2, 4, 8], dtype: "f32" },
        v: { shape: [2, 4, 8], dtype: "f32" },
        mask: { shape: [2, 4], dtype: "i32" },
        seed: { shape: [2, 2], dtype: "u32" },
      },
      message: /3 queries of 4 keys have no span/,
    },
    {
      name: "a prefix beyond the window",
      attributes: { ...base, before: 0, after: 0, prefix: 1 },
      inputs: {
        q: { shape: [2, 3, 8], dtype: "f32" },
        k: { shape: [2, 4, 8], dtype: "f32" },
        v: { shape: [2, 4, 8], dtype: "f32" },
        mask: { shape: [2, 4], dtype: "i32" },
        seed: { shape: [2, 2], dtype: "u32" },
      },
      message: /before 0, after 0, prefix 1/,
    },
    {
      name: "a cap of zero",
      attributes: { ...base, cap: 0 },
      inputs: {
        q: { shape: [2, 3, 8], dtype: "f32" },
        k: { shape: [2, 3, 8], dtype: "f32" },
        v: { shape: [2, 3, 8], dtype: "f32" },
        mask: { shape: [2, 3], dtype: "i32" },
        seed: { shape: [2, 2], dtype: "u32" },
      },
      message: /cap 0/,
    },
  ],
};
