import kernel from "../../../kernels/cross_entropy.wgsl";
import { elementKernel, vectorVariants } from "../../op/element";
import { bindRows, rowRanges } from "../../op/launch";
import type { Launch } from "../../op/launch";
import type { Limits } from "../../op/limits";
import { at } from "./reference";
import type { ReferenceTensor } from "../../op/declaration";

export type RowLossAttributes = {
  /** Rows with this label do not contribute to the loss. Hugging Face uses -100. */
  readonly ignored: number;
  /** Label smoothing, as in torch.nn.CrossEntropyLoss; 0 for none. */
  readonly smoothing: number;
  /** Soft cap c of the logits, c tanh(logit / c); none if absent. */
  readonly cap?: number;
};

/** Slots of an entry: tables [rows, classes], vectors [rows] and scalars [1]. */
export interface RowSlots {
  readonly tables: readonly (readonly [variable: string, slot: string])[];
  readonly vectors: readonly string[];
  readonly scalars: readonly string[];
}

const lossParams = ({ ignored, smoothing, cap = 0 }: RowLossAttributes) => ({ ignored, smoothing, cap });

/** Launches of an entry that processes each row of logits independently. */
export function rowLossLaunches(
  entry: string,
  { rows: count, classes }: { readonly rows: number; readonly classes: number },
  { tables, vectors, scalars }: RowSlots,
  attributes: RowLossAttributes,
  limits: Limits,
): Launch[] {
  const sums = entry === "forward";
  const element = sums ? { kernel } : elementKernel(kernel, [count * classes]);
  return rowRanges(count, [classes * 4, 4], limits).map((range) => ({
    ...element,
    entry,
    bindings: {
      ...Object.fromEntries(tables.map(([name, slot]) => [name, bindRows(slot, range, classes * 4)])),
      ...Object.fromEntries(vectors.map((slot) => [slot, bindRows(slot, range, 4)])),
      ...Object.fromEntries(scalars.map((slot) => [slot, slot])),
    },
    params: { rows: range.count, classes, ...lossParams(attributes) },
    workgroups: range.count,
    ...(sums && {
      variants: vectorVariants(kernel, [count * classes], {
        workgroups: range.count,
        flops: 5 * range.count * classes,
      }),
    }),
  }));
}

/** The launch that sums the losses of the rows. */
export function totalLaunch(rows: number, attributes: RowLossAttributes): Launch {
  return {
    ...elementKernel(kernel, [rows]),
    entry: "temp_total",
    bindings: { x: "row_loss", normalizer: "normalizer", loss: "loss" },
    params: { rows, classes: 0, ...lossParams(attributes) },
    workgroups: 1,
  };
}

/**
 * Loss, log-sum-exps [rows] and slopes [rows, classes] (the gradient of the logits if dloss is 1) of logits
 * [rows, classes], in plain loops, in float64.
 */
export function rowLossReference(
  logits: ReferenceTensor,
  labels: ReferenceTensor,
  normalizer: number,
  { ignored, smoothing, cap }: RowLossAttributes,
): { loss: number; lse: Float64Array; slopes: Float64Array } {
  const classes = logits.shape.at(-1)!;
  const rows = logits.data.length / classes;
  const [lse, slopes] = [new Float64Array(rows), new Float64Array(logits.data.length)];
  let total = 0;
  for (let row = 0; row < rows; row++) {
    const stored = logits.data.subarray(row * classes, (row + 1) * classes);
    const rowLogits = cap === undefined ? stored : stored.map((logit) => cap * Math.tanh(logit / cap));
    const largest = rowLogits.reduce((a, b) => Math.max(a, b), -Infinity);
    const logSumExp = largest + Math.log(rowLogits.reduce((sum, logit) => sum + Math.exp(logit - largest), 0));
    lse[row] = logSumExp;
    const label = at(labels, row);
    if (label === ignored) continue;
    const logitSum = rowLogits.reduce((sum, logit) => sum + logit, 0);
    total += logSumExp - (1 - smoothing) * rowLogits[label]! - (smoothing / classes) * logitSum;
    rowLogits.forEach((logit, j) => {
      const target = smoothing / classes + (j === label ? 1 - smoothing : 0);
      const capSlope = cap === undefined ? 1 : 1 - (logit / cap) ** 2;
      slopes[row * classes + j] = normalizer * (Math.exp(logit - logSumExp) - target) * capSlope;
    });
  }
  return { loss: total * normalizer, lse, slopes };
}
