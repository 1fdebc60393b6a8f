import kernel from "../../kernels/scale_columns.wgsl";
import { ShapeError } from "../base/errors";
import { columns, elements, formatShape, rows } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext, NoAttributes } from "../op/declaration";
import type { Launch } from "../op/launch";
import { columnSumLaunches } from "./shared/column-sum";
import { accumulateParam, elementwiseLaunches } from "./shared/elementwise";
import { chunkCount, chunkSumLaunches } from "./shared/row-chunks";

type Context = LaunchContext<NoAttributes>;

function launches(entry: string, tensors: readonly string[], context: Context): Launch[] {
  const shape = context.spec("a").shape;
  const width = columns(shape);
  return elementwiseLaunches(
    {
      kernel,
      entry,
      tensors,
      whole: ["b"],
      count: elements(shape),
      columns: width,
      params: () => ({ columns: width, ...accumulateParam(context), rows: 0, chunk0: 0 }),
    },
    context.limits,
  );
}

/** y = a b, with one factor for each column, as in (IA)^3 and VeRA. a [..., d], b [d] or any shape of d elements, y [..., d]. */
export const scaleColumns = defineOp({
  name: "scale_columns",
  inputs: { a: { gradient: true }, b: { gradient: true } },
  outputs: ["y"],
  infer(context: InferContext<NoAttributes>) {
    const [a, b] = [context.spec("a").shape, context.spec("b").shape];
    if (a.length === 0 || elements(b) !== columns(a)) {
      throw new ShapeError(
        `scale_columns: b ${formatShape(b)} does not fit a ${formatShape(a)}.`,
        `Pass one factor for each column: b of ${columns(a)} elements.`,
      );
    }
    return { y: { shape: a, dtype: "f32" } };
  },
  temps: {
    partials: {
      reads: ["dy", "a"],
      spec: (context) => {
        const { shape } = context.spec("a");
        return { shape: [chunkCount(rows(shape)), columns(shape)], dtype: "f32" };
      },
      launches: (context) => {
        const { shape } = context.spec("a");
        const width = columns(shape);
        return chunkSumLaunches(
          {
            kernel,
            entry: "temp_partials",
            rows: rows(shape),
            columns: width,
            tables: { a: width * 4, dy: width * 4 },
            whole: { partials: "partials" },
            params: { count: 0, accumulate: 0 },
          },
          context.limits,
        );
      },
    },
  },
  forward: (context) =>
    context.inPlace ? launches("forward_in_place", ["y"], context) : launches("forward", ["a", "y"], context),
  overwrites: "a",
  gradients: [
    {
      wrt: ["a"],
      reads: () => ["b"],
      accumulates: true,
      overwrites: "dy",
      launches: (context) =>
        context.inPlace ? launches("grad_a_in_place", ["da"], context) : launches("grad_a", ["dy", "da"], context),
      flops: (context) => elements(context.spec("a").shape),
    },
    {
      wrt: ["b"],
      reads: () => ["partials"],
      accumulates: true,
      launches: (context) => {
        const { shape } = context.spec("a");
        return columnSumLaunches("partials", "db", chunkCount(rows(shape)), columns(shape), context);
      },
      flops: (context) => 2 * elements(context.spec("a").shape),
    },
  ],
  flops: (context) => elements(context.spec("a").shape),
});
