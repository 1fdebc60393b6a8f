import { ShapeError } from "../base/errors";
import { columns, elements, formatShape, rows } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { LaunchContext } from "../op/declaration";
import type { Launch } from "../op/launch";
import { at, input } from "./shared/reference";
import { rowLossLaunches, rowLossReference, totalLaunch } from "./shared/row-loss";
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
export const crossEntropy = defineOp<RowLossAttributes>({
  name: "cross_entropy",
  inputs: { x: { gradient: true }, labels: { dtype: "i32" }, normalizer: {} },
  outputs: ["loss", "lse"],
  infer(context) {
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
  reference(inputs, attributes) {
    const normalizer = at(input(inputs, "normalizer"), 0);
    const { loss, lse } = rowLossReference(input(inputs, "x"), input(inputs, "labels"), normalizer, attributes);
    return { loss: { shape: [1], data: Float64Array.of(loss) }, lse: { shape: [lse.length], data: lse } };
  },
  cases: [
    {
      name: "three classes, one row ignored",
      attributes: { ignored: -100, smoothing: 0 },
      inputs: {
        x: { shape: [5, 3] },
        labels: { shape: [5], values: [0, 2, -100, 1, 1] },
        normalizer: { shape: [1], values: [0.25] },
      },
    },
    {
      name: "label smoothing, more classes than a workgroup",
      attributes: { ignored: -100, smoothing: 0.1 },
      inputs: {
        x: { shape: [2, 6, 131], scale: 3 },
        labels: { shape: [2, 6], below: 131 },
        normalizer: { shape: [1], values: [1 / 12] },
      },
    },
    {
      name: "one row, two classes, logits far apart",
      attributes: { ignored: -100, smoothing: 0 },
      inputs: {
        x: { shape: [1, 2], values: [200, -200] },
        labels: { shape: [1], values: [1] },
        normalizer: { shape: [1], values: [1] },
      },
    },
    {
      name: "rows that can be split over bindings",
      attributes: { ignored: -100, smoothing: 0 },
      inputs: {
        x: { shape: [256, 4] },
        labels: { shape: [256], below: 4 },
        normalizer: { shape: [1], values: [1 / 256] },
      },
    },
    {
      name: "odd rows that begin within a vector",
      attributes: { ignored: -100, smoothing: 0.1 },
      inputs: {
        x: { shape: [8, 67], scale: 3 },
        labels: { shape: [8], values: [0, 66, -100, 1, 3, 64, 65, 66] },
        normalizer: { shape: [1], values: [1 / 7] },
      },
    },
    {
      name: "GPT-2's vocabulary, 64 tokens",
      attributes: { ignored: -100, smoothing: 0 },
      inputs: {
        x: { shape: [64, 50257] },
        labels: { shape: [64], below: 50257 },
        normalizer: { shape: [1], values: [1 / 64] },
      },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "fewer labels than rows",
      attributes: { ignored: -100, smoothing: 0 },
      inputs: {
        x: { shape: [4, 3], dtype: "f32" },
        labels: { shape: [3], dtype: "i32" },
        normalizer: { shape: [1], dtype: "f32" },
      },
      message: /logits \[4, 3\] do not fit labels \[3\]/,
    },
  ],
});
