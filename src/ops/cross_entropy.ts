import { ShapeError } from "../base/errors";
import { columns, elements, formatShape, rows } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext } from "../op/declaration";
import type { Launch } from "../op/launch";
import { rowLossLaunches, totalLaunch } from "./shared/row-loss";
import type { RowLossAttributes, RowSlots } from "./shared/row-loss";

function launches(entry: string, context: LaunchContext<RowLossAttributes>, slots: RowSlots): Launch[] {
  const { shape } = context.spec("x");
  return rowLossLaunches(
    entry,
    { rows: rows(shape), classes: columns(shape) },
    slots,
    context.attributes,
    context.limits,
  );
}

/**
 * Mean cross-entropy of the rows whose label is not ignored. lse is the log-sum-exp of each row. x [..., classes]
 * (logits), labels i32 [...], normalizer f32 [1] = 1 / (number of labels that are not ignored); loss [1], lse [rows].
 */
export const crossEntropy = defineOp({
  name: "cross_entropy",
  inputs: { x: { gradient: true }, labels: { dtype: "i32" }, normalizer: {} },
  outputs: ["loss", "lse"],
  infer(context: InferContext<RowLossAttributes>) {
    const x = context.spec("x").shape;
    const labels = context.spec("labels").shape;
    if (x.length < 2 || elements(labels) !== rows(x)) {
      throw new ShapeError(
        `cross_entropy: logits ${formatShape(x)} do not fit labels ${formatShape(labels)}.`,
        "Pass one label for each row of logits.",
      );
    }
    return { loss: { shape: [1], dtype: "f32" }, lse: { shape: [rows(x)], dtype: "f32" } };
  },
  temps: {
    row_loss: {
      reads: [],
      spec: (context) => ({ shape: [rows(context.spec("x").shape)], dtype: "f32" }),
      launches: () => [],
    },
  },
  forwardTemps: ["row_loss"],
  forward: (context) => [
    ...launches("forward", context, { tables: [["x", "x"]], vectors: ["labels", "lse", "row_loss"], scalars: [] }),
    totalLaunch(rows(context.spec("x").shape), context.attributes),
  ],
  gradients: [
    {
      wrt: ["x"],
      reads: () => ["x", "labels", "normalizer", "lse"],
      overwrites: "x",
      launches(context) {
        const dx = ["dx", "dx"] as const;
        return launches(context.inPlace ? "grad_x_in_place" : "grad_x", context, {
          tables: context.inPlace ? [dx] : [["x", "x"], dx],
          vectors: ["labels", "lse"],
          scalars: ["normalizer", "dloss"],
        });
      },
      flops: (context) => 4 * elements(context.spec("x").shape),
    },
  ],
  flops: (context) => 5 * elements(context.spec("x").shape),
});
