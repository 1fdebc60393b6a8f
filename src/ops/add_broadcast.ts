import kernel from "../../kernels/add_broadcast.wgsl";
import { ShapeError } from "../base/errors";
import { elements, formatShape, isSuffix } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, NoAttributes } from "../op/declaration";
import { columnSumLaunches } from "./shared/column-sum";
import { elementwiseLaunches } from "./shared/elementwise";

/** Sizes of a as a matrix, with as many columns as b has elements. */
function sizes(context: InferContext<NoAttributes>): { count: number; rows: number; columns: number } {
  const count = elements(context.spec("a").shape);
  const width = elements(context.spec("b").shape);
  return { count, rows: count / width, columns: width };
}

/** y = a + b, where b is repeated over the leading axes of a. a [..., shape of b], b [...], y [shape of a]. */
export const addBroadcast = defineOp({
  name: "add_broadcast",
  inputs: { a: { gradient: true }, b: { gradient: true } },
  outputs: ["y"],
  infer(context: InferContext<NoAttributes>) {
    const [a, b] = [context.spec("a").shape, context.spec("b").shape];
    if (!isSuffix(b, a)) {
      throw new ShapeError(
        `add_broadcast: b ${formatShape(b)} does not broadcast to a ${formatShape(a)}.`,
        "Pass b with the shape of the last axes of a.",
      );
    }
    return { y: { shape: a, dtype: "f32" } };
  },
  forward(context) {
    const { count, columns } = sizes(context);
    const [entry, tensors] = context.inPlace ? ["forward_in_place", ["y"]] : ["forward", ["a", "y"]];
    return elementwiseLaunches(
      { kernel, entry, tensors, whole: ["b"], count, columns, params: () => ({ columns }) },
      context.limits,
    );
  },
  overwrites: "a",
  gradients: [
    { wrt: ["a"], reads: () => [], passesThrough: true },
    {
      wrt: ["b"],
      reads: () => [],
      accumulates: true,
      launches: (context) => columnSumLaunches("dy", "db", sizes(context).rows, sizes(context).columns, context),
      flops: (context) => sizes(context).count,
    },
  ],
  flops: (context) => sizes(context).count,
});
