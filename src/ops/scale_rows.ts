import kernel from "../../kernels/scale_rows.wgsl";
import { ShapeError } from "../base/errors";
import { columns, elements, formatShape, rows } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext, NoAttributes } from "../op/declaration";
import { elementKernel } from "../op/element";
import { bindRows, rowRanges } from "../op/launch";
import type { Launch } from "../op/launch";
import { accumulateParam } from "./shared/elementwise";
import { rowScaleLaunches } from "./shared/row-scale";

const GROUP = 64;

type Context = LaunchContext<NoAttributes>;

function factorLaunches(context: Context): Launch[] {
  const { shape } = context.spec("a");
  const width = columns(shape);
  return rowRanges(rows(shape), [width * 4, 4], context.limits).map((range) => ({
    ...elementKernel(kernel, [width]),
    entry: "grad_b",
    workgroups: Math.ceil(range.count / GROUP),
    bindings: {
      ...Object.fromEntries(["dy", "a"].map((slot) => [slot, bindRows(slot, range, width * 4)])),
      db: bindRows("db", range, 4),
    },
    params: { count: range.count, columns: width, ...accumulateParam(context) },
  }));
}

function elementLaunches(entry: string, slots: readonly string[], context: Context): Launch[] {
  const { shape } = context.spec("a");
  const tables = Object.fromEntries(slots.map((slot) => [slot, slot]));
  return rowScaleLaunches(entry, { rows: rows(shape), width: columns(shape) }, { tables, factors: "b" }, context);
}

/**
 * y = a b, with one factor for each row, as in VeRA and AFLoRA. a [..., d], b [rows of a] or any shape of
 * as many elements, y [..., d].
 */
export const scaleRows = defineOp({
  name: "scale_rows",
  inputs: { a: { gradient: true }, b: { gradient: true } },
  outputs: ["y"],
  infer(context: InferContext<NoAttributes>) {
    const [a, b] = [context.spec("a").shape, context.spec("b").shape];
    if (a.length === 0 || elements(b) !== rows(a)) {
      throw new ShapeError(
        `scale_rows: b ${formatShape(b)} does not fit a ${formatShape(a)}.`,
        `Pass one factor for each row: b of ${rows(a)} elements.`,
      );
    }
    return { y: { shape: a, dtype: "f32" } };
  },
  forward: (context) =>
    context.inPlace
      ? elementLaunches("forward_in_place", ["y"], context)
      : elementLaunches("forward", ["a", "y"], context),
  overwrites: "a",
  gradients: [
    {
      wrt: ["a"],
      reads: () => ["b"],
      accumulates: true,
      overwrites: "dy",
      launches: (context) =>
        context.inPlace
          ? elementLaunches("grad_a_in_place", ["da"], context)
          : elementLaunches("grad_a", ["dy", "da"], context),
      flops: (context) => elements(context.spec("a").shape),
    },
    {
      wrt: ["b"],
      reads: () => ["a"],
      accumulates: true,
      launches: factorLaunches,
      flops: (context) => 2 * elements(context.spec("a").shape),
    },
  ],
  flops: (context) => elements(context.spec("a").shape),
});
