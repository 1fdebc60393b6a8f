import kernel from "../../kernels/arrange_rows.wgsl";
import { ShapeError } from "../base/errors";
import { columns, elements, formatShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext } from "../op/declaration";
import { elementKernel, elementWorkgroups } from "../op/element";
import { bindRows, rowRanges } from "../op/launch";
import type { Launch } from "../op/launch";
import { accumulateParam } from "./shared/elementwise";

export type ArrangeRowsAttributes = {
  /** Number of texts, or images, whose rows are arranged alike. */
  readonly texts: number;
  /** Rows of y that belong together: tokens of a window. */
  readonly group: number;
  /** Rows that come to lie side by side as one of y. */
  readonly joined: number;
};

/** Rows of a text before (x) and after (y), and their width. */
function sizes(context: InferContext<ArrangeRowsAttributes>): { x: number; y: number; width: number } {
  const { shape } = context.spec("x");
  const width = columns(shape);
  return { x: elements(shape) / width / context.attributes.texts, y: elements(context.spec("from").shape), width };
}

function launches(entry: "forward" | "grad_x", context: LaunchContext<ArrangeRowsAttributes>): Launch[] {
  const { x, y, width } = sizes(context);
  const isForward = entry === "forward";
  const [source, target] = isForward ? (["x", "y"] as const) : (["dy", "dx"] as const);
  const [sourceBytes, targetBytes] = [4 * width * (isForward ? x : y), 4 * width * (isForward ? y : x)];
  const element = elementKernel(kernel, [width]);
  const { WIDTH } = element.constants;
  return rowRanges(context.attributes.texts, [sourceBytes, targetBytes], context.limits).map((range) => {
    const count = (range.count * targetBytes) / 4;
    return {
      ...element,
      entry,
      bindings: {
        [source]: bindRows(source, range, sourceBytes),
        ...(isForward ? { from_rows: "from" } : { back_rows: "back" }),
        [target]: bindRows(target, range, targetBytes),
      },
      params: { count: count / WIDTH, x_rows: x, y_rows: y, columns: width / WIDTH, ...accumulateParam(context) },
      workgroups: elementWorkgroups(count, element),
    };
  });
}

/**
 * Rows of each text in another order, some left out and some zeros: windows of an image's tokens, and its tokens again. Row i
 * of a text's result is its row from[i], or zeros where from[i] is negative. No row is read twice; `back` names for each row of
 * x the row of the result that reads it, or a negative number.
 * x [..., d] (leading axes flattened to texts * t rows), from i32 [n], back i32 [t];
 * y [texts * n / (group * joined), group, joined * d].
 */
export const arrangeRows = defineOp({
  name: "arrange_rows",
  inputs: { x: { gradient: true }, from: { dtype: "i32" }, back: { dtype: "i32" } },
  outputs: ["y"],
  infer(context: InferContext<ArrangeRowsAttributes>) {
    const { texts, group, joined } = context.attributes;
    const { x, y, width } = sizes(context);
    const groups = (texts * y) / (group * joined);
    if (!Number.isInteger(groups) || x !== elements(context.spec("back").shape)) {
      throw new ShapeError(
        `arrange_rows: x ${formatShape(context.spec("x").shape)}, from ${formatShape(context.spec("from").shape)}, back ${formatShape(context.spec("back").shape)} do not fit ${texts} texts in groups of ${group} x ${joined} rows.`,
        "Pass from [n] and back [t] for x with texts * t rows, and groups that texts * n rows make.",
      );
    }
    return { y: { shape: [groups, group, joined * width], dtype: "f32" } };
  },
  forward: (context) => launches("forward", context),
  gradients: [
    { wrt: ["x"], reads: () => ["back"], accumulates: true, launches: (context) => launches("grad_x", context) },
  ],
  flops: () => 0,
});
