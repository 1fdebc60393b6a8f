import code from "../../kernels/cross_entropy.wgsl";
import { ShapeError } from "../base/errors";
import { columns, elements, formatShape, rows } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { LaunchContext } from "../op/declaration";
import { bindRows, rowRanges } from "../op/launch";
import type { Launch } from "../op/launch";
import { at, filled, input } from "./shared/reference";

const kernel = { name: "cross_entropy", code };

export type CrossEntropyAttributes = {
  /** Label whose row counts nothing (Hugging Face: -100). */
  readonly ignored: number;
  /** Label smoothing, as torch.nn.CrossEntropyLoss defines it. */
  readonly smoothing: number;
};

type Context = LaunchContext<CrossEntropyAttributes>;

function rowLaunches(
  entry: string,
  context: Context,
  tables: readonly string[],
  vectors: readonly string[],
  scalars: readonly string[],
): Launch[] {
  const shape = context.spec("x").shape;
  const [count, classes] = [rows(shape), columns(shape)];
  return rowRanges(count, [classes * 4, 4], context.limits).map((range) => ({
    kernel,
    entry,
    bindings: {
      ...Object.fromEntries(tables.map((slot) => [slot, bindRows(slot, range, classes * 4)])),
      ...Object.fromEntries(vectors.map((slot) => [slot, bindRows(slot, range, 4)])),
      ...Object.fromEntries(scalars.map((slot) => [slot, slot])),
    },
    params: { rows: range.count, classes, ...context.attributes },
    workgroups: range.count,
  }));
}

/**
 * Mean cross-entropy over the labels that are not ignored.
 * x [..., classes] (logits), labels i32 [...], normalizer f32 [1] = 1 / (labels that count); loss [1], lse [rows].
 */
export const crossEntropy = defineOp<CrossEntropyAttributes>({
  name: "cross_entropy",
  inputs: { x: { gradient: true }, labels: { dtype: "i32" }, normalizer: {} },
  outputs: ["loss", "lse"],
  infer(context) {
    const x = context.spec("x").shape;
    const labels = context.spec("labels").shape;
    if (x.length < 2 || elements(labels) !== rows(x)) {
      throw new ShapeError(
        `cross_entropy: logits ${formatShape(x)} do not fit labels ${formatShape(labels)}.`,
        "Pass one label per row of logits.",
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
  forward(context) {
    return [
      ...rowLaunches("forward", context, ["x"], ["labels", "lse", "row_loss"], []),
      {
        kernel,
        entry: "temp_total",
        bindings: { row_loss: "row_loss", normalizer: "normalizer", loss: "loss" },
        params: { rows: rows(context.spec("x").shape), classes: 0, ...context.attributes },
        workgroups: 1,
      },
    ];
  },
  gradients: [
    {
      of: ["x"],
      reads: () => ["x", "labels", "normalizer", "lse"],
      overwrites: "x",
      launches: (context) =>
        context.inPlace
          ? rowLaunches("grad_x_in_place", context, ["dx"], ["labels", "lse"], ["normalizer", "dloss"])
          : rowLaunches("grad_x", context, ["x", "dx"], ["labels", "lse"], ["normalizer", "dloss"]),
      flops: (context) => 4 * elements(context.spec("x").shape),
    },
  ],
  flops: (context) => 5 * elements(context.spec("x").shape),
  reference(inputs, { ignored, smoothing }) {
    const x = input(inputs, "x");
    const labels = input(inputs, "labels");
    const classes = columns(x.shape);
    const lse = filled([rows(x.shape)], (row) => {
      const logits = x.data.subarray(row * classes, (row + 1) * classes);
      const largest = Math.max(...logits);
      return largest + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - largest), 0));
    });
    let total = 0;
    for (let row = 0; row < lse.data.length; row++) {
      const label = at(labels, row);
      if (label === ignored) continue;
      const plain = x.data.subarray(row * classes, (row + 1) * classes).reduce((sum, logit) => sum + logit, 0);
      total += at(lse, row) - (1 - smoothing) * at(x, row * classes + label) - (smoothing / classes) * plain;
    }
    return { loss: { shape: [1], data: Float64Array.of(total * at(input(inputs, "normalizer"), 0)) }, lse };
  },
  cases: [
    {
      name: "three classes, one row ignored",
      attributes: { ignored: -100, smoothing: 0 },
      inputs: {
        ...{ x: { shape: [5, 3] }, labels: { shape: [5], values: [0, 2, -100, 1, 1] } },
        normalizer: { shape: [1], values: [0.25] },
      },
    },
    {
      name: "label smoothing, more classes than a workgroup",
      attributes: { ignored: -100, smoothing: 0.1 },
      inputs: {
        ...{ x: { shape: [2, 6, 131], scale: 3 }, labels: { shape: [2, 6], below: 131 } },
        normalizer: { shape: [1], values: [1 / 12] },
      },
    },
    {
      name: "one row, two classes, far apart",
      attributes: { ignored: -100, smoothing: 0 },
      inputs: {
        ...{ x: { shape: [1, 2], values: [200, -200] }, labels: { shape: [1], values: [1] } },
        normalizer: { shape: [1], values: [1] },
      },
    },
    {
      name: "rows that can be split over bindings",
      attributes: { ignored: -100, smoothing: 0 },
      inputs: {
        ...{ x: { shape: [256, 4] }, labels: { shape: [256], below: 4 } },
        normalizer: { shape: [1], values: [1 / 256] },
      },
    },
    {
      name: "GPT-2's vocabulary, 64 tokens",
      attributes: { ignored: -100, smoothing: 0 },
      inputs: {
        ...{ x: { shape: [64, 50257] }, labels: { shape: [64], below: 50257 } },
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
