import { ShapeError } from "../base/errors";
import { formatShape, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext } from "../op/declaration";
import {
  attentionStatistics,
  checkSeeds,
  attentionFlops,
  attentionForward,
  attentionGradient,
  attentionGradients,
  attentionReference,
} from "./shared/attention";
import type { AttentionAttributes, AttentionLayout } from "./shared/attention";
import { at, input } from "./shared/reference";

type Context = InferContext<AttentionAttributes>;

function layoutOf(q: readonly number[], { heads, kvHeads }: AttentionAttributes): AttentionLayout {
  const [batch = 0, time = 0, width = 0] = q;
  const head = width / heads;
  return {
    batch,
    time,
    head,
    q: { slot: "q", row: width, offset: 0 },
    k: { slot: "k", row: kvHeads * head, offset: 0 },
    v: { slot: "v", row: kvHeads * head, offset: 0 },
  };
}

const layout = (context: Context): AttentionLayout => layoutOf(context.spec("q").shape, context.attributes);
const kvRow = (context: Context): number => layout(context).k.row;
const time = (context: Context): number => layout(context).time;
const flops = (context: Context, products: number): number =>
  attentionFlops(layout(context), context.attributes.heads, products);

const base: AttentionAttributes = { heads: 2, kvHeads: 2, causal: false, scale: 0.5, dropout: 0, salt: 0 };
/** Seeds of `texts` texts. */
const seeds = (texts: number) => ({ shape: [texts, 2], values: Array.from({ length: 2 * texts }, (_, i) => 3 + i) });

/**
 * Attention, y = softmax(scale * q k^T) v for each head, without storing a time x time matrix (Dao et al. 2022). Keys
 * whose mask is 0 are padding and get no weight. lse holds the logarithms of the softmax's denominators, for the
 * gradients. q [b, t, heads * d], k and v [b, t, kvHeads * d], mask i32 [b, t], seed u32 [b, 2]; y [b, t, heads * d],
 * lse [b, heads, t].
 */
export const attention = defineOp<AttentionAttributes>({
  name: "attention",
  inputs: {
    q: { gradient: true },
    k: { gradient: true },
    v: { gradient: true },
    mask: { dtype: "i32" },
    seed: { dtype: "u32" },
  },
  outputs: ["y", "lse"],
  infer(context) {
    const { heads, kvHeads } = context.attributes;
    const [q, k, v] = [context.spec("q").shape, context.spec("k").shape, context.spec("v").shape];
    const [batch = 0, length = 0, width = 0] = q;
    const fits = q.length === 3 && width % heads === 0 && heads % kvHeads === 0;
    if (!fits || !sameShape(k, [batch, length, (width / heads) * kvHeads]) || !sameShape(v, k)) {
      throw new ShapeError(
        `attention: q ${formatShape(q)}, k ${formatShape(k)}, v ${formatShape(v)} do not fit ${heads} heads over ${kvHeads}.`,
        "Pass q [b, t, heads * d] and k, v [b, t, kvHeads * d], with heads a multiple of kvHeads.",
      );
    }
    if (!sameShape(context.spec("mask").shape, [batch, length])) {
      throw new ShapeError(
        `attention: mask ${formatShape(context.spec("mask").shape)} does not fit q ${formatShape(q)}.`,
        `Pass a mask of shape [${batch}, ${length}].`,
      );
    }
    checkSeeds("attention", context.spec("seed").shape, batch);
    return { y: { shape: q, dtype: "f32" }, lse: { shape: [batch, heads, length], dtype: "f32" } };
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
      wrt: ["q", "k", "v"],
      reads: () => ["q", "k", "v", "mask", "statistics"],
      launches(context) {
        const [at, kv] = [layout(context), kvRow(context)];
        const dkv = ["dk", "dv"].map((slot) => [slot, slot, kv, at.time] as const);
        return attentionGradients("grad_k_v", [["dq", "dq", at.q.row, at.time], dkv], at, context);
      },
      flops: (context) => flops(context, 7),
    },
    {
      wrt: ["q"],
      reads: () => ["q", "k", "v", "mask", "statistics"],
      launches: (context) =>
        attentionGradient("grad_q", [["dq", "dq", layout(context).q.row, time(context)]], layout(context), context),
      flops: (context) => flops(context, 3),
    },
    {
      wrt: ["k", "v"],
      reads: () => ["q", "k", "v", "mask", "statistics"],
      launches: (context) =>
        attentionGradient(
          "grad_k_v",
          [
            ["dk", "dk", kvRow(context), time(context)],
            ["dv", "dv", kvRow(context), time(context)],
          ],
          layout(context),
          context,
        ),
      flops: (context) => flops(context, 4),
    },
    {
      wrt: ["k"],
      reads: () => ["q", "k", "v", "mask", "statistics"],
      launches: (context) =>
        attentionGradient("grad_k", [["dk", "dk", kvRow(context), time(context)]], layout(context), context),
      flops: (context) => flops(context, 3),
    },
    {
      wrt: ["v"],
      reads: () => ["q", "k", "mask", "seed", "lse"],
      launches: (context) =>
        attentionGradient("grad_v", [["dv", "dv", kvRow(context), time(context)]], layout(context), context),
      flops: (context) => flops(context, 2),
    },
  ],
  flops: (context) => flops(context, 2),
  reference(inputs, attributes) {
    const q = input(inputs, "q");
    const shape = layoutOf(q.shape, attributes);
    const tensors = { q, k: input(inputs, "k"), v: input(inputs, "v") };
    const read = (operand: "q" | "k" | "v", batch: number, row: number, head: number, column: number): number =>
      at(tensors[operand], (batch * shape.time + row) * shape[operand].row + head * shape.head + column);
    return attentionReference(shape, attributes, read, input(inputs, "mask"), input(inputs, "seed"));
  },
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
      attributes: { ...base, heads: 4, kvHeads: 2, causal: true },
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
      attributes: { ...base, heads: 4, kvHeads: 2, causal: true },
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
  ],
});
