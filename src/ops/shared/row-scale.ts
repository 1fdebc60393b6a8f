import kernel from "../../../kernels/scale_rows.wgsl";
import { elementKernel, elementWorkgroups } from "../../op/element";
import { bindRows, rowRanges } from "../../op/launch";
import type { Launch } from "../../op/launch";
import type { LaunchContext } from "../../op/declaration";
import { accumulateParam } from "./elementwise";

/** Tables of an entry of scale_rows.wgsl, by their variables, and the slot of the factors, one for each row. */
export interface RowScale {
  readonly tables: Readonly<Record<string, string>>;
  readonly factors: string;
}

/** Launches of an entry that multiplies the rows of a table [rows, width] by one factor each. */
export function rowScaleLaunches(
  entry: string,
  { rows: count, width }: { readonly rows: number; readonly width: number },
  { tables, factors }: RowScale,
  { limits, accumulate }: Pick<LaunchContext, "limits" | "accumulate">,
): Launch[] {
  const element = elementKernel(kernel, [width]);
  return rowRanges(count, [width * 4, 4], limits).map((range) => ({
    ...element,
    entry,
    workgroups: elementWorkgroups(range.count * width, element),
    bindings: {
      ...Object.fromEntries(Object.entries(tables).map(([name, slot]) => [name, bindRows(slot, range, width * 4)])),
      b: bindRows(factors, range, 4),
    },
    params: { count: range.count * width, columns: width, ...accumulateParam({ accumulate }) },
  }));
}
