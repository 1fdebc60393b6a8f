import { ShapeError } from "../base/errors";
import { formatShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext } from "../op/declaration";
import {
  attentionStatistics,
  checkSeeds,
  checkSpan,
  attentionFlops,
  attentionForward,
  attentionGradients,
  attentionReference,
} from "./shared/attention";
import type { AttentionAttributes, AttentionLayout } from "./shared/attention";
import { at, input } from "./shared/reference";

function layoutOf(qkv: readonly number[], { heads }: AttentionAttributes): AttentionLayout {
  const [batch = 0, time = 0, row = 0] = qkv;
  const width = row / 3;
  return {
    batch,
    time,
    keys: time,
    head: width / heads,
    q: { slot: "qkv", row, offset: 0 },
    k: { slot: "qkv", row, offset: width },
    v: { slot: "qkv", row, offset: 2 * width },
  };
}

const layout = (context: InferContext<AttentionAttributes>): AttentionLayout =>
  layoutOf(context.spec("qkv").shape, context.attributes);

const both: AttentionAttributes = { heads: 2, kvHeads: 2, scale: 0.5, dropout: 0, salt: 0 };
const base: AttentionAttributes = { ...both, after: 0 };
/** Seeds of `texts` texts. */
const seeds = (texts: number) => ({ shape: [texts, 2], values: Array.from({ length: 2 * texts }, (_, i) => 3 + i) });

/**
 * `attention` whose q, k and v are columns of one fused projection (GPT-2's c_attn), which is not sliced.
 * qkv [b, t, 3 * heads * d] in the order q | k | v, mask i32 [b, t], seed u32 [b, 2]; y [b, t, heads * d],
 * lse [b, heads, t].
 */
export const fusedAttention = defineOp<AttentionAttributes>({
  name: "fused_attention",
  inputs: { qkv: { gradient: true }, mask: { dtype: "i32" }, seed: { dtype: "u32" } },
  outputs: ["y", "lse"],
  infer(context) {
    const { heads, kvHeads } = context.attributes;
    const qkv = context.spec("qkv").shape;
    const [batch = 0, time = 0, row = 0] = qkv;
    if (qkv.length !== 3 || row % (3 * heads) !== 0 || kvHeads !== heads) {
      throw new ShapeError(
        `fused_attention: qkv ${formatShape(qkv)} does not fit q, k and v of ${heads} heads.`,
        "Pass qkv [b, t, 3 * heads * d], with as many key-value heads as heads.",
      );
    }
    checkSpan("fused_attention", layout(context), context.attributes, context.spec("mask").shape);
    checkSeeds("fused_attention", context.spec("seed").shape, batch);
    return {
      y: { shape: [batch, time, row / 3], dtype: "f32" },
      lse: { shape: [batch, heads, time], dtype: "f32" },
    };
  },
  temps: {
    statistics: {
      reads: ["dy", "y", "lse", "seed"],
      spec: (context) => ({ shape: [...context.spec("lse").shape, 4], dtype: "u32" }),
      launches: (context) => attentionStatistics(layout(context), context),
    },
  },
  forward: (context) => attentionForward(layout(context), context),
  gradients: [
    {
      wrt: ["qkv"],
      reads: () => ["qkv", "mask", "statistics"],
      launches(context) {
        const at = layout(context);
        const table = (variable: string) => [variable, "dqkv", at.q.row, at.time] as const;
        return attentionGradients("grad_k_v_fused", [table("dq"), [table("dk")]], at, context);
      },
      flops: (context) => attentionFlops(layout(context), context.attributes, 7),
    },
  ],
  flops: (context) => attentionFlops(layout(context), context.attributes, 2),
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
});
