import kernel from "../../../kernels/column_sum.wgsl";
import { elementKernel, elementWorkgroups } from "../../op/element";
import { bindRows, rowRanges } from "../../op/launch";
import type { Launch } from "../../op/launch";
import type { Limits } from "../../op/limits";

/** Launches of target [columns] (+)= sum over rows of source [rows, columns]; several if source exceeds a binding. */
export function columnSumLaunches(
  source: string,
  target: string,
  rows: number,
  columns: number,
  context: { readonly limits: Limits; readonly accumulate: boolean },
): Launch[] {
  const element = elementKernel(kernel, [columns]);
  return rowRanges(rows, [columns * 4], context.limits).map((range) => ({
    ...element,
    entry: "forward",
    bindings: { x: bindRows(source, range, columns * 4), total: target },
    params: { rows: range.count, columns, accumulate: context.accumulate || range.start > 0 ? 1 : 0 },
    workgroups: elementWorkgroups(columns, element),
  }));
}
