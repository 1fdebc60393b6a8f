import { adafactor } from "./adafactor";
import { adafactorVector } from "./adafactor_vector";
import { adam } from "./adam";
import { adamw } from "./adamw";
import { add } from "./add";
import { addBroadcast } from "./add_broadcast";
import { applyMask } from "./apply_mask";
import { arrangeRows } from "./arrange_rows";
import { attention } from "./attention";
import { binary } from "./binary";
import { blockLinear } from "./block_linear";
import { broadcastTo } from "./broadcast_to";
import { cacheAppend } from "./cache_append";
import { cachedAttention } from "./cached_attention";
import { cayley } from "./cayley";
import { cka } from "./cka";
import { compare } from "./compare";
import { concat } from "./concat";
import { crop } from "./crop";
import { crossEntropy } from "./cross_entropy";
import { dropout } from "./dropout";
import { embedding } from "./embedding";
import { fill } from "./fill";
import { fusedAttention } from "./fused_attention";
import { geglu } from "./geglu";
import { gelu } from "./gelu";
import { identityDistance } from "./identity_distance";
import { inverseNorms } from "./inverse_norms";
import { layerNorm } from "./layer_norm";
import { linear } from "./linear";
import { linearCrossEntropy } from "./linear_cross_entropy";
import { linearTokenCrossEntropy } from "./linear_token_cross_entropy";
import { lion } from "./lion";
import { loraImportance } from "./lora_importance";
import { loraLinear } from "./lora_linear";
import { matmul } from "./matmul";
import { max } from "./max";
import { meanAbsolute } from "./mean_absolute";
import { meanSquaredError } from "./mean_squared_error";
import { mul } from "./mul";
import { muon } from "./muon";
import { muonMomentum } from "./muon_momentum";
import { newtonSchulz } from "./newton_schulz";
import { poolTokens } from "./pool_tokens";
import { prepend } from "./prepend";
import { productMean } from "./product_mean";
import { relativeAttention } from "./relative_attention";
import { relu } from "./relu";
import { reshape } from "./reshape";
import { rmsNorm } from "./rms_norm";
import { rope } from "./rope";
import { scale } from "./scale";
import { scaleColumns } from "./scale_columns";
import { scaleRows } from "./scale_rows";
import { scaledAdd } from "./scaled_add";
import { sensitivity } from "./sensitivity";
import { sgd } from "./sgd";
import { silu } from "./silu";
import { slice } from "./slice";
import { softThreshold } from "./soft_threshold";
import { softmax } from "./softmax";
import { squareSum } from "./square_sum";
import { sum } from "./sum";
import { swapAxes } from "./swap_axes";
import { swiglu } from "./swiglu";
import { takeColumns } from "./take_columns";
import { tanh } from "./tanh";
import { tokenCrossEntropy } from "./token_cross_entropy";
import { transpose } from "./transpose";
import { unary } from "./unary";
import { unfold } from "./unfold";
import { where } from "./where";

/** Every op by name. An object, since bundlers keep namespaces whole. */
export const ops = {
  adafactor,
  adafactorVector,
  adam,
  adamw,
  add,
  addBroadcast,
  applyMask,
  arrangeRows,
  attention,
  binary,
  blockLinear,
  broadcastTo,
  cacheAppend,
  cachedAttention,
  cayley,
  cka,
  compare,
  concat,
  crop,
  crossEntropy,
  dropout,
  embedding,
  fill,
  fusedAttention,
  geglu,
  gelu,
  identityDistance,
  inverseNorms,
  layerNorm,
  linear,
  linearCrossEntropy,
  linearTokenCrossEntropy,
  lion,
  loraImportance,
  loraLinear,
  matmul,
  max,
  meanAbsolute,
  meanSquaredError,
  mul,
  muon,
  muonMomentum,
  newtonSchulz,
  poolTokens,
  prepend,
  productMean,
  relativeAttention,
  relu,
  reshape,
  rmsNorm,
  rope,
  scale,
  scaleColumns,
  scaleRows,
  scaledAdd,
  sensitivity,
  sgd,
  silu,
  slice,
  softThreshold,
  softmax,
  squareSum,
  sum,
  swapAxes,
  swiglu,
  takeColumns,
  tanh,
  tokenCrossEntropy,
  transpose,
  unary,
  unfold,
  where,
};
