import kernel from "../../kernels/product_mean.wgsl";
import { ShapeError } from "../base/errors";
import { elements, formatShape, sameShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import { elementKernel } from "../op/element";

/** y = mean of a b, as in AFLoRA's score of a tensor. a, b [...] of one shape, y [1]. */
export const productMean = defineOp({
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
});
