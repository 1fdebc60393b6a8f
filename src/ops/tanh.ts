import kernel from "../../kernels/tanh.wgsl";
import { unaryOp } from "./shared/unary";

/** Hyperbolic tangent, elementwise. x [...], y [...]. */
export const tanh = unaryOp({
  kernel,
  keeps: "y",
  reference: Math.tanh,
  flops: { forward: 15, gradient: 3 },
  cases: [
    { name: "odd size", attributes: {}, inputs: { x: { shape: [3, 5], scale: 2 } } },
    {
      name: "far tails and near zero",
      attributes: {},
      inputs: { x: { shape: [9], values: [-200, -20, -0.61, -1e-4, 0, 1e-4, 0.59, 20, 200] } },
    },
    { name: "one element", attributes: {}, inputs: { x: { shape: [1] } } },
    { name: "elements that can be split over bindings", attributes: {}, inputs: { x: { shape: [41, 50] } } },
    { name: "pooled BERT-large, 512 rows", attributes: {}, inputs: { x: { shape: [512, 1024] } }, bench: true },
  ],
});
