import kernel from "../../kernels/take_columns.wgsl";
import { ShapeError } from "../base/errors";
import { columns, formatShape, rows } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext } from "../op/declaration";
import { elementKernel, elementWorkgroups } from "../op/element";
import { bindRows, rowRanges } from "../op/launch";
import type { Launch } from "../op/launch";
import { accumulateParam } from "./shared/elementwise";

export type TakeColumnsAttributes = {
  /** First column of the first group. */
  readonly offset: number;
  /** Columns of a group. */
  readonly size: number;
  /** Number of groups. */
  readonly groups: number;
  /** Columns of x from the beginning of one group to that of the next. */
  readonly stride: number;
};

function launches(
  entry: string,
  [from, to]: readonly [string, string],
  context: LaunchContext<TakeColumnsAttributes>,
): Launch[] {
  const { offset, size, groups, stride } = context.attributes;
  const x = context.spec("x").shape;
  const widths: Readonly<Record<string, number>> = {
    x: columns(x),
    dx: columns(x),
    y: groups * size,
    dy: groups * size,
  };
  const element = elementKernel(kernel, [columns(x), offset, size, stride]);
  const { WIDTH } = element.constants;
  return rowRanges(rows(x), [columns(x) * 4, groups * size * 4], context.limits).map((range) => {
    const count = range.count * widths[to]!;
    return {
      ...element,
      entry,
      bindings: Object.fromEntries([from, to].map((slot) => [slot, bindRows(slot, range, widths[slot]! * 4)])),
      params: {
        count: count / WIDTH,
        offset: offset / WIDTH,
        size: size / WIDTH,
        stride: stride / WIDTH,
        columns: (groups * size) / WIDTH,
        x_columns: columns(x) / WIDTH,
        ...accumulateParam(context),
      },
      workgroups: elementWorkgroups(count, element),
    };
  });
}

/**
 * Groups of neighbouring columns, side by side: queries, keys or values of a projection that gives all of them.
 * x [..., n], y [..., groups * size] with y[..., g * size + j] = x[..., offset + g * stride + j].
 */
export const takeColumns = defineOp({
  name: "take_columns",
  inputs: { x: { gradient: true } },
  outputs: ["y"],
  infer(context: InferContext<TakeColumnsAttributes>) {
    const { shape } = context.spec("x");
    const { offset, size, groups, stride } = context.attributes;
    const isValid = [offset, size - 1, groups - 1, stride - size].every((n) => Number.isInteger(n) && n >= 0);
    if (!isValid || offset + (groups - 1) * stride + size > columns(shape)) {
      throw new ShapeError(
        `take_columns: ${groups} groups of ${size} columns, ${stride} apart from ${offset} on, are not in x ${formatShape(shape)}.`,
        "Pass groups that do not overlap and end where x ends.",
      );
    }
    return { y: { shape: [...shape.slice(0, -1), groups * size], dtype: "f32" } };
  },
  forward: (context) => launches("forward", ["x", "y"], context),
  gradients: [
    {
      wrt: ["x"],
      reads: () => [],
      accumulates: true,
      launches: (context) => launches("grad_x", ["dy", "dx"], context),
    },
  ],
  flops: () => 0,
});
