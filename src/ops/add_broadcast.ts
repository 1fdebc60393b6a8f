import kernel from "../../kernels/add_broadcast.wgsl";
import { ShapeError } from "../base/errors";
import { elements, formatShape, isSuffix } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, NoAttributes } from "../op/declaration";
import { columnSumLaunches } from "./shared/column-sum";
import { elementwiseLaunches } from "./shared/elementwise";
import { at, filled, input } from "./shared/reference";

/** Sizes of a as a matrix, with as many columns as b has elements. */
function sizes(context: InferContext<NoAttributes>): { count: number; rows: number; columns: number } {
  const count = elements(context.spec("a").shape);
  const width = elements(context.spec("b").shape);
  return { count, rows: count / width, columns: width };
}

/** y = a + b, where b is repeated over the leading axes of a. a [..., shape of b], b [...], y [shape of a]. */
export const addBroadcast = defineOp<NoAttributes>({
  name: "add_broadcast",
  inputs: { a: { gradient: true }, b: { gradient: true } },
  outputs: ["y"],
  infer(context) {
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
  reference(inputs) {
    const [a, b] = [input(inputs, "a"), input(inputs, "b")];
    return { y: filled(a.shape, (index) => at(a, index) + at(b, index % b.data.length)) };
  },
  cases: [
    { name: "a row over a batch", attributes: {}, inputs: { a: { shape: [2, 3, 5] }, b: { shape: [5] } } },
    { name: "a matrix over a batch", attributes: {}, inputs: { a: { shape: [4, 3, 7] }, b: { shape: [3, 7] } } },
    { name: "one element", attributes: {}, inputs: { a: { shape: [1] }, b: { shape: [1] } } },
    {
      name: "rows that can be split over bindings",
      attributes: {},
      inputs: { a: { shape: [16, 4, 32] }, b: { shape: [4, 32] } },
    },
    {
      name: "positions of BERT-base, 8 x 128 tokens",
      attributes: {},
      inputs: { a: { shape: [8, 128, 768] }, b: { shape: [128, 768] } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "b does not match the last axes of a",
      attributes: {},
      inputs: { a: { shape: [2, 3], dtype: "f32" }, b: { shape: [2], dtype: "f32" } },
      message: /b \[2\] does not broadcast to a \[2, 3\]/,
    },
  ],
});
