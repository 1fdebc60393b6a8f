import kernel from "../../kernels/relu.wgsl";
import { unaryOp } from "./shared/unary";

/** Rectified linear unit, y = max(0, x), elementwise. x [...], y [...]. */
export const relu = unaryOp({
  kernel,
  keeps: "y",
  flops: { forward: 1, gradient: 1 },
});
