import kernel from "../../kernels/product_mean.wgsl";
import { ShapeError } from "../base/errors";
import { elements, formatShape, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { NoAttributes } from "../op/declaration";
import { elementKernel } from "../op/element";
import { at, input } from "./shared/reference";

/** y = mean of a b, as in AFLoRA's score of a tensor. a, b [...] of one shape, y [1]. */
export const productMean = defineOp<NoAttributes>({
  name: "product_mean",
  inputs: { a: {}, b: {} },
  outputs: ["y"],
  infer(context) {
    const [a, b] = [context.spec("a").shape, context.spec("b").shape];
    if (!sameShape(a, b)) {
      throw new ShapeError(
        `product_mean: a ${formatShape(a)} and b ${formatShape(b)} differ.`,
        "Pass tensors of one shape.",
      );
    }
    return { y: { shape: [1], dtype: "f32" } };
  },
  forward(context) {
    const count = elements(context.spec("a").shape);
    const bindings = { a: "a", b: "b", y: "y" };
    return [{ ...elementKernel(kernel, [count]), entry: "forward", bindings, workgroups: 1, params: { count } }];
  },
  gradients: [],
  flops: (context) => 2 * elements(context.spec("a").shape),
  reference(inputs) {
    const [a, b] = [input(inputs, "a"), input(inputs, "b")];
    const sum = a.data.reduce((total, v, i) => total + v * at(b, i), 0);
    return { y: { shape: [1], data: Float64Array.of(sum / a.data.length) } };
  },
  cases: [
    { name: "odd size", attributes: {}, inputs: { a: { shape: [3, 5], offset: 2 }, b: { shape: [3, 5], offset: 1 } } },
    {
      name: "more elements than a workgroup",
      attributes: {},
      inputs: { a: { shape: [4, 70], offset: 2 }, b: { shape: [4, 70], offset: 1 } },
    },
    { name: "one element", attributes: {}, inputs: { a: { shape: [1] }, b: { shape: [1] } } },
    {
      name: "A of BERT-base, rank 4",
      attributes: {},
      inputs: { a: { shape: [4, 768] }, b: { shape: [4, 768] } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "shapes that differ",
      attributes: {},
      inputs: { a: { shape: [2], dtype: "f32" }, b: { shape: [3], dtype: "f32" } },
      message: /a \[2\] and b \[3\] differ/,
    },
  ],
});
