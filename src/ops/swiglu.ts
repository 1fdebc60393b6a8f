import kernel from "../../kernels/swiglu.wgsl";
import type { NoAttributes } from "../op/declaration";
import { gatedOp } from "./shared/gated";

/** y = silu(gate) * up, the gated unit of LLaMA (Shazeer 2020, eq. 6). gate, up, y [...] of one shape. */
export const swiglu = gatedOp<NoAttributes>({
  kernel,
  flops: [7, 11, 7],
});
