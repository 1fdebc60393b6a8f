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
} from "./shared/attention";
import type { AttentionAttributes, AttentionLayout } from "./shared/attention";

/** Where q, k and v lie in a tensor of this shape. */
export function layoutOf(qkv: readonly number[], { heads }: AttentionAttributes): AttentionLayout {
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

/**
 * `attention` whose q, k and v are columns of one fused projection (GPT-2's c_attn), which is not sliced.
 * qkv [b, t, 3 * heads * d] in the order q | k | v, mask i32 [b, t], seed u32 [b, 2]; y [b, t, heads * d],
 * lse [b, heads, t].
 */
export const fusedAttention = defineOp({
  name: "fused_attention",
  inputs: { qkv: { gradient: true }, mask: { dtype: "i32" }, seed: { dtype: "u32" } },
  outputs: ["y", "lse"],
  infer(context: InferContext<AttentionAttributes>) {
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
});
