import kernel from "../../kernels/tanh.wgsl";
import { unaryOp } from "./shared/unary";

/** Hyperbolic tangent, elementwise. x [...], y [...]. */
export const tanh = unaryOp({
  kernel,
  keeps: "y",
  flops: { forward: 15, gradient: 3 },
});
