import type { TestsOf } from "../op/declaration";
import { seeds, separateReference } from "./attention.cases";
import { input } from "./shared/reference";
import type { relativeAttention, RelativeAttentionAttributes } from "./relative_attention";

const base: RelativeAttentionAttributes = { heads: 2, kvHeads: 2, form: "numbers", scale: 0.5, dropout: 0, salt: 0 };

export const relativeAttentionTests: TestsOf<typeof relativeAttention> = {
  reference(inputs, attributes) {
    const { form, columns = input(inputs, "q").shape[1]! } = attributes;
    return separateReference(inputs, attributes, { form, columns, table: input(inputs, "relative") });
  },
  cases: [
    {
      name: "a number for each distance, causal, dropout, grouped queries",
      attributes: { ...base, heads: 4, kvHeads: 2, after: 0, form: "numbers", dropout: 0.2, salt: 9 },
      inputs: {
        q: { shape: [2, 37, 16] },
        k: { shape: [2, 37, 8] },
        v: { shape: [2, 37, 8] },
        relative: { shape: [73, 4] },
        seed: seeds(2),
        mask: { shape: [2, 37], values: Array.from({ length: 74 }, (_, i) => (i < 70 ? 1 : 0)) },
      },
    },
    {
      name: "a number for each distance on a grid, segments",
      attributes: { ...base, heads: 3, kvHeads: 3, form: "numbers", columns: 5, segments: true },
      inputs: {
        q: { shape: [6, 20, 12] },
        k: { shape: [6, 20, 12] },
        v: { shape: [6, 20, 12] },
        relative: { shape: [63, 3] },
        seed: seeds(6),
        mask: {
          shape: [6, 20],
          values: Array.from({ length: 120 }, (_, i) => (i < 60 ? 1 : Math.floor((i % 10) / 5))),
        },
      },
    },
    {
      name: "a number for each distance, row of positions that is not full",
      attributes: { ...base, form: "numbers", columns: 7 },
      inputs: {
        q: { shape: [2, 4, 8] },
        k: { shape: [2, 4, 8] },
        v: { shape: [2, 4, 8] },
        relative: { shape: [13, 2] },
        seed: seeds(2),
        mask: { shape: [2, 4], values: [1, 1, 1, 1, 1, 1, 1, 0] },
      },
    },
    {
      name: "a number for each distance, batch that can be split over bindings",
      attributes: { ...base, form: "numbers" },
      inputs: {
        q: { shape: [256, 4, 16] },
        k: { shape: [256, 4, 16] },
        v: { shape: [256, 4, 16] },
        relative: { shape: [7, 2] },
        seed: seeds(256),
        mask: { shape: [256, 4], values: Array.from({ length: 1024 }, (_, i) => (i % 4 === 3 ? 0 : 1)) },
      },
    },
    {
      name: "rows for each distance, table wider than the text, padding, dropout",
      attributes: { ...base, form: "rows", columns: 40, dropout: 0.1, salt: 4 },
      inputs: {
        q: { shape: [2, 37, 8] },
        k: { shape: [2, 37, 8] },
        v: { shape: [2, 37, 8] },
        relative: { shape: [79, 2, 8] },
        seed: seeds(2),
        mask: { shape: [2, 37], values: Array.from({ length: 74 }, (_, i) => (i < 70 ? 1 : 0)) },
      },
    },
    {
      name: "rows for each distance, odd head size, batch that can be split over bindings",
      attributes: { ...base, form: "rows" },
      inputs: {
        q: { shape: [256, 4, 10] },
        k: { shape: [256, 4, 10] },
        v: { shape: [256, 4, 10] },
        relative: { shape: [7, 2, 10] },
        seed: seeds(256),
        mask: { shape: [256, 4], values: Array.from({ length: 1024 }, (_, i) => (i % 9 === 3 ? 0 : 1)) },
      },
    },
    {
      name: "FLAN-T5-base, 4 x 128",
      attributes: { ...base, heads: 12, kvHeads: 12, scale: 1 },
      inputs: {
        q: { shape: [4, 128, 768] },
        k: { shape: [4, 128, 768] },
        v: { shape: [4, 128, 768] },
        relative: { shape: [255, 12] },
        seed: seeds(4),
        mask: { shape: [4, 128], values: Array.from({ length: 512 }, () => 1) },
      },
      bench: true,
    },
    {
      name: "Swin-base, 64 windows",
      attributes: { ...base, heads: 4, kvHeads: 4, columns: 7, segments: true, scale: 0.18 },
      inputs: {
        q: { shape: [64, 49, 128] },
        k: { shape: [64, 49, 128] },
        v: { shape: [64, 49, 128] },
        relative: { shape: [169, 4] },
        seed: seeds(64),
        mask: { shape: [64, 49], values: Array.from({ length: 3136 }, () => 1) },
      },
      bench: true,
    },
    {
      name: "DeBERTaV3-base, 4 x 128",
      attributes: { ...base, form: "rows", heads: 12, kvHeads: 12, scale: 0.072 },
      inputs: {
        q: { shape: [4, 128, 768] },
        k: { shape: [4, 128, 768] },
        v: { shape: [4, 128, 768] },
        relative: { shape: [255, 2, 768] },
        seed: seeds(4),
        mask: { shape: [4, 128], values: Array.from({ length: 512 }, () => 1) },
      },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "a table with too few entries",
      attributes: { ...base, form: "numbers" },
      inputs: {
        q: { shape: [2, 3, 8], dtype: "f32" },
        k: { shape: [2, 3, 8], dtype: "f32" },
        v: { shape: [2, 3, 8], dtype: "f32" },
        mask: { shape: [2, 3], dtype: "i32" },
        seed: { shape: [2, 2], dtype: "u32" },
        relative: { shape: [3, 2], dtype: "f32" },
      },
      message: /numbers \[3, 2\] do not fit 3 queries/,
    },
  ],
};
