import gradientsPart from "../../kernels/lib/relative_gradients.wgsl";
import tablePart from "../../kernels/lib/relative_table.wgsl";
import { ShapeError } from "../base/errors";
import { formatShape, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext } from "../op/declaration";
import type { Launch } from "../op/launch";
import { attention, gradientTable, inferAttention, separateLayout, separateReference } from "./attention";
import { attentionFlops, attentionForward, attentionGradient, attentionStatistics } from "./shared/attention";
import type { AttentionAttributes, AttentionLayout } from "./shared/attention";
import { input } from "./shared/reference";

export type RelativeAttentionAttributes = AttentionAttributes & {
  /** What `relative` has for each difference of positions. */
  readonly form: "numbers" | "rows";
  /** Columns of the grid on which tokens lie, row by row; default one row of all tokens. */
  readonly columns?: number;
};

type Context = InferContext<RelativeAttentionAttributes>;

function layout(context: Context): AttentionLayout {
  const separate = separateLayout(context);
  const { form, columns = separate.time } = context.attributes;
  const [entries = 0] = context.spec("relative").shape;
  return { ...separate, relative: { form, columns, entries, parts: PARTS[form] } };
}

/** What reads the table. For rows, there is the portable kernel alone. */
const PARTS = {
  numbers: { portable: gradientsPart, variants: tablePart },
  rows: { portable: gradientsPart },
} as const;

/** FLOPs of `products` products, of which one makes the scores: three, with rows of a table. */
const flops = (context: Context, products: number): number =>
  attentionFlops(layout(context), context.attributes, products + (context.attributes.form === "rows" ? 2 : 0));

/** What gradients of scores read. */
const READ = ["q", "k", "v", "mask", "statistics", "relative"];
/** What the gradient of the values reads. */
const READ_FOR_VALUES = ["q", "k", "mask", "seed", "lse", "relative"];

type Operand = "q" | "k" | "v";

/** Launches of gradients. The table takes the binding that would let one launch write dk and dv. */
const launches =
  (...operands: Operand[]) =>
  (context: LaunchContext<RelativeAttentionAttributes>): Launch[] =>
    operands.flatMap((operand) =>
      attentionGradient(`grad_${operand}`, [gradientTable(context, operand)], layout(context), context),
    );

const base: RelativeAttentionAttributes = { heads: 2, kvHeads: 2, form: "numbers", scale: 0.5, dropout: 0, salt: 0 };
/** Seeds of `texts` texts. */
const seeds = (texts: number) => ({ shape: [texts, 2], values: Array.from({ length: 2 * texts }, (_, i) => 3 + i) });

/**
 * `attention` of t queries to t keys whose scores depend on the difference of their positions by a table: its entry
 * (i - j) + t - 1 is that of query i and key j, or, for tokens on a grid, entry (yi - yj + rows - 1)(2 columns - 1) +
 * (xi - xj + columns - 1). `form` numbers: relative [entries, heads] is added to the capped scores (T5, Swin). `form` rows:
 * relative [entries, 2, heads * d] is a key pk and a query pq, and scores are scale * (q k + q pk + k pq), then capped
 * (DeBERTa). Other inputs and outputs are those of `attention`.
 */
export const relativeAttention = defineOp<RelativeAttentionAttributes>({
  name: "relative_attention",
  inputs: { ...attention.inputs, relative: { gradient: true } },
  outputs: attention.outputs,
  infer(context) {
    const inferred = inferAttention("relative_attention", context);
    const { time, keys, head } = separateLayout(context);
    const { heads, form, columns = time } = context.attributes;
    const table = context.spec("relative").shape;
    const [entries = 0] = table;
    const across = 2 * columns - 1;
    const rows = (entries / across + 1) / 2;
    const fits = sameShape(table, form === "rows" ? [entries, 2, heads * head] : [entries, heads]);
    if (!fits || time !== keys || !Number.isInteger(rows) || rows * columns < time) {
      throw new ShapeError(
        `relative_attention: ${form} ${formatShape(table)} do not fit ${time} queries and ${keys} keys in rows of ${columns}, ${heads} heads of ${head}.`,
        `Pass as many keys as queries, and numbers [entries, heads] or rows [entries, 2, heads * d] with (2 rows - 1) * ${across} entries.`,
      );
    }
    return inferred;
  },
  temps: {
    statistics: {
      ...attention.temps!["statistics"]!,
      launches: (context) => attentionStatistics(separateLayout(context), context),
    },
  },
  forward: (context) => attentionForward(layout(context), context),
  gradients: [
    {
      wrt: ["q"],
      reads: () => READ,
      launches: launches("q"),
      flops: (context) => flops(context, 3),
    },
    {
      wrt: ["k"],
      reads: () => READ,
      launches: launches("k"),
      flops: (context) => flops(context, 3),
    },
    {
      wrt: ["v"],
      reads: () => READ_FOR_VALUES,
      launches: launches("v"),
      flops: (context) => flops(context, 2),
    },
    {
      wrt: ["relative"],
      reads: () => READ,
      accumulates: true,
      launches(context) {
        const entry = context.attributes.form === "rows" ? "grad_relative_rows" : "grad_relative";
        return attentionGradient(entry, [], layout(context), context);
      },
      flops: (context) => flops(context, context.attributes.form === "rows" ? 4 : 2),
    },
  ],
  flops: (context) => flops(context, 2),
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
        q: { shape: [64, 4, 64] },
        k: { shape: [64, 4, 64] },
        v: { shape: [64, 4, 64] },
        relative: { shape: [7, 2] },
        seed: seeds(64),
        mask: { shape: [64, 4], values: Array.from({ length: 256 }, (_, i) => (i % 4 === 3 ? 0 : 1)) },
      },
    },
    {
      name: "rows for each distance, padding, dropout",
      attributes: { ...base, form: "rows", dropout: 0.1, salt: 4 },
      inputs: {
        q: { shape: [2, 37, 8] },
        k: { shape: [2, 37, 8] },
        v: { shape: [2, 37, 8] },
        relative: { shape: [73, 2, 8] },
        seed: seeds(2),
        mask: { shape: [2, 37], values: Array.from({ length: 74 }, (_, i) => (i < 70 ? 1 : 0)) },
      },
    },
    {
      name: "rows for each distance, odd head size, batch that can be split over bindings",
      attributes: { ...base, form: "rows" },
      inputs: {
        q: { shape: [64, 4, 46] },
        k: { shape: [64, 4, 46] },
        v: { shape: [64, 4, 46] },
        relative: { shape: [7, 2, 46] },
        seed: seeds(64),
        mask: { shape: [64, 4], values: Array.from({ length: 256 }, (_, i) => (i % 9 === 3 ? 0 : 1)) },
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
});
