import kernel from "../../../kernels/cross_entropy.wgsl";
import { elementKernel, vectorVariants } from "../../op/element";
import { bindRows, rowRanges } from "../../op/launch";
import type { Launch } from "../../op/launch";
import type { Limits } from "../../op/limits";

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
