import { ShapeError } from "../base/errors";
import { formatShape, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, TensorSpec } from "../op/declaration";
import {
  attentionStatistics,
  checkSeeds,
  checkSpan,
  attentionFlops,
  attentionForward,
  attentionGradient,
  attentionGradients,
} from "./shared/attention";
import type { AttentionAttributes, AttentionLayout, Table } from "./shared/attention";

type Context = InferContext<AttentionAttributes>;

/** Where q, k and v of these shapes lie. */
export function layoutOf(
  q: readonly number[],
  [, keys = 0]: readonly number[],
  { heads, kvHeads }: AttentionAttributes,
): AttentionLayout {
  const [batch = 0, time = 0, width = 0] = q;
  const head = width / heads;
  return {
    batch,
    time,
    keys,
    head,
    q: { slot: "q", row: width, offset: 0 },
    k: { slot: "k", row: kvHeads * head, offset: 0 },
    v: { slot: "v", row: kvHeads * head, offset: 0 },
  };
}

/** Where q, k and v lie that are tensors of their own. */
export const separateLayout = (context: Context): AttentionLayout =>
  layoutOf(context.spec("q").shape, context.spec("k").shape, context.attributes);

const layout = separateLayout;
const flops = (context: Context, products: number): number =>
  attentionFlops(layout(context), context.attributes, products);

/** The gradient of q, k or v as a table. */
export function gradientTable(context: Context, slot: "q" | "k" | "v"): Table {
  const at = layout(context);
  return [`d${slot}`, `d${slot}`, at[slot].row, slot === "q" ? at.time : at.keys];
}

/** Shapes of y and lse. @throws ShapeError or ConfigError for inputs that do not fit each other or the attributes. */
export function inferAttention(op: string, context: Context): Readonly<Record<"y" | "lse", TensorSpec>> {
  const { heads, kvHeads } = context.attributes;
  const [q, k, v] = [context.spec("q").shape, context.spec("k").shape, context.spec("v").shape];
  const [batch = 0, length = 0, width = 0] = q;
  const fits = q.length === 3 && k.length === 3 && width % heads === 0 && heads % kvHeads === 0;
  if (!fits || !sameShape(k, [batch, k[1]!, (width / heads) * kvHeads]) || !sameShape(v, k)) {
    throw new ShapeError(
      `${op}: q ${formatShape(q)}, k ${formatShape(k)}, v ${formatShape(v)} do not fit ${heads} heads over ${kvHeads}.`,
      "Pass q [b, t, heads * d] and k, v [b, s, kvHeads * d], with heads a multiple of kvHeads.",
    );
  }
  checkSpan(op, layout(context), context.attributes, context.spec("mask").shape);
  checkSeeds(op, context.spec("seed").shape, batch);
  return { y: { shape: q, dtype: "f32" }, lse: { shape: [batch, heads, length], dtype: "f32" } };
}

/**
 * Attention, y = softmax(scale * q k^T) v for each head, without storing a matrix of queries and keys (Dao et al. 2022). With
 * `before` and `after`, a query sees only keys near it, which are counted from the key of its number, or `prefix` keys behind
 * that; with `cap`, scores are capped; keys that the mask hides get no weight: those for which it holds 0, or, with
 * `segments`, another number than for the query. lse holds the logarithms of the softmax's denominators, for the gradients.
 * q [b, t, heads * d], k and v [b, s, kvHeads * d] with s = t + prefix or, in cross-attention, any s, mask i32 [b, s], seed u32 [b, 2]; y [b, t, heads * d], lse [b, heads, t].
 */
export const attention = defineOp({
  name: "attention",
  inputs: {
    q: { gradient: true },
    k: { gradient: true },
    v: { gradient: true },
    mask: { dtype: "i32" },
    seed: { dtype: "u32" },
  },
  outputs: ["y", "lse"],
  infer: (context: Context) => inferAttention("attention", context),
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
      wrt: ["q", "k", "v"],
      reads: () => ["q", "k", "v", "mask", "statistics"],
      launches(context) {
        const dkv = [gradientTable(context, "k"), gradientTable(context, "v")];
        return attentionGradients("grad_k_v", [gradientTable(context, "q"), dkv], layout(context), context);
      },
      flops: (context) => flops(context, 7),
    },
    {
      wrt: ["q"],
      reads: () => ["q", "k", "v", "mask", "statistics"],
      launches: (context) => attentionGradient("grad_q", [gradientTable(context, "q")], layout(context), context),
      flops: (context) => flops(context, 3),
    },
    {
      wrt: ["k", "v"],
      reads: () => ["q", "k", "v", "mask", "statistics"],
      launches: (context) =>
        attentionGradient(
          "grad_k_v",
          [gradientTable(context, "k"), gradientTable(context, "v")],
          layout(context),
          context,
        ),
      flops: (context) => flops(context, 4),
    },
    {
      wrt: ["k"],
      reads: () => ["q", "k", "v", "mask", "statistics"],
      launches: (context) => attentionGradient("grad_k", [gradientTable(context, "k")], layout(context), context),
      flops: (context) => flops(context, 3),
    },
    {
      wrt: ["v"],
      reads: () => ["q", "k", "mask", "seed", "lse"],
      launches: (context) => attentionGradient("grad_v", [gradientTable(context, "v")], layout(context), context),
      flops: (context) => flops(context, 2),
    },
  ],
  flops: (context) => flops(context, 2),
});
