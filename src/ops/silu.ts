import kernel from "../../kernels/silu.wgsl";
import { unaryOp } from "./shared/unary";

/** Sigmoid linear unit, y = x / (1 + exp(-x)) (Elfwing et al. 2018), elementwise. x [...], y [...]. */
export const silu = unaryOp({
  kernel,
  keeps: "x",
  flops: { forward: 6, gradient: 9 },
});
