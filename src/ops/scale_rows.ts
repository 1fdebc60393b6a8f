import kernel from "../../kernels/scale_rows.wgsl";
import { ShapeError } from "../base/errors";
import { columns, elements, formatShape, rows } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext, NoAttributes } from "../op/declaration";
import { elementKernel, elementWorkgroups } from "../op/element";
import type { ElementKernel } from "../op/element";
import { bindRows, rowRanges } from "../op/launch";
import type { Launch, RowRange } from "../op/launch";
import { accumulateParam } from "./shared/elementwise";

const GROUP = 64;

type Context = LaunchContext<NoAttributes>;

/** A launch for each range of rows. `tables` have a row of a for each factor, `vectors` one number. */
function launches(
  entry: string,
  tables: readonly string[],
  vectors: readonly string[],
  context: Context,
  size: (
    range: RowRange,
    width: number,
    element: ElementKernel,
  ) => { readonly count: number; readonly workgroups: number },
): Launch[] {
  const { shape } = context.spec("a");
  const width = columns(shape);
  const element = elementKernel(kernel, [width]);
  return rowRanges(rows(shape), [width * 4, 4], context.limits).map((range) => {
    const { count, workgroups } = size(range, width, element);
    return {
      ...element,
      entry,
      workgroups,
      bindings: {
        ...Object.fromEntries(tables.map((slot) => [slot, bindRows(slot, range, width * 4)])),
        ...Object.fromEntries(vectors.map((slot) => [slot, bindRows(slot, range, 4)])),
      },
      params: { count, columns: width, ...accumulateParam(context) },
    };
  });
}

function elementLaunches(entry: string, tables: readonly string[], context: Context): Launch[] {
  return launches(entry, tables, ["b"], context, (range, width, element) => {
    const count = range.count * width;
    return { count, workgroups: elementWorkgroups(count, element) };
  });
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
      launches: (context) =>
        launches("grad_b", ["dy", "a"], ["db"], context, ({ count }) => ({
          count,
          workgroups: Math.ceil(count / GROUP),
        })),
      flops: (context) => 2 * elements(context.spec("a").shape),
    },
  ],
  flops: (context) => elements(context.spec("a").shape),
});
