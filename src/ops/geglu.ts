import kernel from "../../kernels/geglu.wgsl";
import { geluParams } from "./gelu";
import type { GeluAttributes } from "./gelu";
import { gatedOp } from "./shared/gated";

/** y = gelu(gate) * up (Shazeer 2020, eq. 6), the gated unit of Gemma and T5 1.1. gate, up, y [...] of one shape. */
export const geglu = gatedOp<GeluAttributes>({
  kernel,
  params: geluParams,
  flops: [21, 30, 21],
});
