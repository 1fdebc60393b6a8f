import gradientsPart from "../../kernels/lib/relative_gradients.wgsl";
import numbersPart from "../../kernels/lib/relative_numbers.wgsl";
import rowsPart from "../../kernels/lib/relative_rows.wgsl";
import tablePart from "../../kernels/lib/relative_table.wgsl";
import rowProductsPart from "../../kernels/lib/tile_products_rows.wgsl";
import { ShapeError } from "../base/errors";
import { formatShape, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext } from "../op/declaration";
import type { Launch } from "../op/launch";
import { attention, gradientTable, inferAttention, separateLayout } from "./attention";
import { attentionFlops, attentionForward, attentionGradient, attentionStatistics } from "./shared/attention";
import type { AttentionAttributes, AttentionLayout } from "./shared/attention";

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

/** What reads the table, and writes its gradients, in attention.wgsl and in its variants. */
const PARTS = {
  numbers: {
    attention: { "lib/relative": gradientsPart },
    attention_tiled: { "lib/relative": tablePart },
    attention_subgroup: { "lib/relative": numbersPart },
  },
  rows: {
    attention: { "lib/relative": gradientsPart },
    attention_tiled: { "lib/relative": rowsPart },
    attention_subgroup: { "lib/relative": rowsPart, "lib/tile_products": rowProductsPart },
  },
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

/**
 * `attention` of t queries to t keys whose scores depend on the difference of their positions by a table: its entry
 * (i - j) + t - 1 is that of query i and key j, or, for tokens on a grid, entry (yi - yj + rows - 1)(2 columns - 1) +
 * (xi - xj + columns - 1). `form` numbers: relative [entries, heads] is added to the capped scores (T5, Swin). `form` rows:
 * relative [entries, 2, heads * d] is a key pk and a query pq, and scores are scale * (q k + q pk + k pq), then capped
 * (DeBERTa). Other inputs and outputs are those of `attention`.
 */
export const relativeAttention = defineOp({
  name: "relative_attention",
  inputs: { ...attention.inputs, relative: { gradient: true } },
  outputs: attention.outputs,
  infer(context: Context) {
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
});
