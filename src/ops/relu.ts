import kernel from "../../kernels/relu.wgsl";
import { unaryOp } from "./shared/unary";

/** Rectified linear unit, y = max(0, x), elementwise. x [...], y [...]. */
export const relu = unaryOp({
  kernel,
  keeps: "y",
  reference: (x) => Math.max(0, x),
  flops: { forward: 1, gradient: 1 },
  cases: [
    { name: "odd size", attributes: {}, inputs: { x: { shape: [3, 5], scale: 2 } } },
    { name: "one element", attributes: {}, inputs: { x: { shape: [1], offset: 1 } } },
    { name: "elements that can be split over bindings", attributes: {}, inputs: { x: { shape: [41, 50] } } },
    { name: "bottleneck of BERT-base, 512 tokens", attributes: {}, inputs: { x: { shape: [512, 48] } }, bench: true },
  ],
});
