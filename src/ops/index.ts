import type { Op } from "../op/declaration";
import { adamw } from "./adamw";
import { add } from "./add";
import { addBroadcast } from "./add_broadcast";
import { attention } from "./attention";
import { cka } from "./cka";
import { crossEntropy } from "./cross_entropy";
import { dropout } from "./dropout";
import { embedding } from "./embedding";
import { fusedAttention } from "./fused_attention";
import { gelu } from "./gelu";
import { layerNorm } from "./layer_norm";
import { linear } from "./linear";
import { loraLinear } from "./lora_linear";
import { meanSquaredError } from "./mean_squared_error";
import { mul } from "./mul";
import { scaleColumns } from "./scale_columns";
import { crop } from "./crop";
import { relu } from "./relu";
import { scaleRows } from "./scale_rows";
import { silu } from "./silu";
import { prepend } from "./prepend";
import { rmsNorm } from "./rms_norm";
import { rope } from "./rope";
import { swapAxes } from "./swap_axes";
import { swiglu } from "./swiglu";
import { applyMask } from "./apply_mask";
import { identityDistance } from "./identity_distance";
import { meanAbsolute } from "./mean_absolute";
import { productMean } from "./product_mean";
import { scale } from "./scale";
import { sensitivity } from "./sensitivity";
import { softThreshold } from "./soft_threshold";
import { squareSum } from "./square_sum";
import { tanh } from "./tanh";

export {
  adamw,
  add,
  addBroadcast,
  attention,
  cka,
  crossEntropy,
  dropout,
  embedding,
  fusedAttention,
  gelu,
  layerNorm,
  linear,
  loraLinear,
  meanSquaredError,
  mul,
  scaleColumns,
  crop,
  relu,
  scaleRows,
  silu,
  prepend,
  rmsNorm,
  rope,
  swapAxes,
  swiglu,
  applyMask,
  identityDistance,
  meanAbsolute,
  productMean,
  scale,
  sensitivity,
  softThreshold,
  squareSum,
  tanh,
};

/** Every op: what tests, benches and the registry of kernels are derived from. */
export const OPS: readonly Op[] = [
  linear,
  loraLinear,
  layerNorm,
  attention,
  fusedAttention,
  embedding,
  gelu,
  tanh,
  dropout,
  add,
  addBroadcast,
  mul,
  scaleColumns,
  crop,
  relu,
  scaleRows,
  silu,
  prepend,
  rmsNorm,
  rope,
  swapAxes,
  swiglu,
  crossEntropy,
  meanSquaredError,
  squareSum,
  adamw,
  applyMask,
  identityDistance,
  meanAbsolute,
  productMean,
  scale,
  sensitivity,
  softThreshold,
  cka,
];
