import { ShapeError } from "../base/errors";
import { columns, elements, formatShape, rows } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext } from "../op/declaration";
import type { Launch } from "../op/launch";
import { fillLaunches } from "./shared/fill";
import { rowLossLaunches } from "./shared/row-loss";
import type { RowLossAttributes, RowSlots } from "./shared/row-loss";
import { rowScaleLaunches } from "./shared/row-scale";

type Context = LaunchContext<RowLossAttributes>;

const sizeOf = (context: InferContext): { rows: number; classes: number } => {
  const { shape } = context.spec("x");
  return { rows: rows(shape), classes: columns(shape) };
};

const lossLaunches = (entry: string, context: Context, slots: RowSlots): Launch[] =>
  rowLossLaunches(entry, sizeOf(context), slots, context.attributes, context.limits);

/** The slopes of all losses, as of a mean whose factors are 1, and then each row times the gradient of its loss. */
function gradientLaunches(context: Context): Launch[] {
  const { rows: count, classes } = sizeOf(context);
  const dx = ["dx", "dx"] as const;
  const slopes = lossLaunches(context.inPlace ? "grad_x_in_place" : "grad_x", context, {
    tables: context.inPlace ? [dx] : [["x", "x"], dx],
    vectors: ["labels", "lse"],
    scalars: [],
  }).map((launch) => ({ ...launch, bindings: { ...launch.bindings, normalizer: "one", dloss: "one" } }));
  const scaled = { tables: { y: "dx" }, factors: "drow_loss" };
  return [...slopes, ...rowScaleLaunches("forward_in_place", { rows: count, width: classes }, scaled, context)];
}

/**
 * The cross-entropy of each row: `cross_entropy` without the mean. lse is the log-sum-exp of each row. x [..., classes] (logits), labels
 * i32 [...]; row_loss [rows], 0 where the label is ignored, lse [rows].
 */
export const tokenCrossEntropy = defineOp({
  name: "token_cross_entropy",
  inputs: { x: { gradient: true }, labels: { dtype: "i32" } },
  outputs: ["row_loss", "lse"],
  infer(context: InferContext<RowLossAttributes>) {
    const x = context.spec("x").shape;
    const labels = context.spec("labels").shape;
    if (x.length < 2 || elements(labels) !== rows(x)) {
      throw new ShapeError(
        `token_cross_entropy: logits ${formatShape(x)} do not fit labels ${formatShape(labels)}.`,
        "Pass one label for each row of logits.",
      );
    }
    return { row_loss: { shape: [rows(x)], dtype: "f32" }, lse: { shape: [rows(x)], dtype: "f32" } };
  },
  temps: {
    one: {
      reads: [],
      spec: () => ({ shape: [1], dtype: "f32" }),
      launches: ({ limits }) => fillLaunches("one", 1, 1, limits),
    },
  },
  forward: (context) =>
    lossLaunches("forward", context, { tables: [["x", "x"]], vectors: ["labels", "lse", "row_loss"], scalars: [] }),
  gradients: [
    {
      wrt: ["x"],
      reads: () => ["x", "labels", "lse", "one"],
      overwrites: "x",
      launches: gradientLaunches,
      flops: (context) => 5 * elements(context.spec("x").shape),
    },
  ],
  flops: (context) => 5 * elements(context.spec("x").shape),
});
