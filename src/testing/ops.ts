import { ConfigError } from "../base/errors";
import { shown } from "../base/shown";
import type { Op, OpTests, TestedOp, TestsOf } from "../op/declaration";
import { adafactorTests } from "../ops/adafactor.cases";
import { adafactorVectorTests } from "../ops/adafactor_vector.cases";
import { adamTests } from "../ops/adam.cases";
import { adamwTests } from "../ops/adamw.cases";
import { addTests } from "../ops/add.cases";
import { addBroadcastTests } from "../ops/add_broadcast.cases";
import { applyMaskTests } from "../ops/apply_mask.cases";
import { arrangeRowsTests } from "../ops/arrange_rows.cases";
import { attentionTests } from "../ops/attention.cases";
import { binaryTests } from "../ops/binary.cases";
import { blockLinearTests } from "../ops/block_linear.cases";
import { broadcastToTests } from "../ops/broadcast_to.cases";
import { cacheAppendTests } from "../ops/cache_append.cases";
import { cachedAttentionTests } from "../ops/cached_attention.cases";
import { cayleyTests } from "../ops/cayley.cases";
import { ckaTests } from "../ops/cka.cases";
import { compareTests } from "../ops/compare.cases";
import { concatTests } from "../ops/concat.cases";
import { cropTests } from "../ops/crop.cases";
import { crossEntropyTests } from "../ops/cross_entropy.cases";
import { dropoutTests } from "../ops/dropout.cases";
import { embeddingTests } from "../ops/embedding.cases";
import { fillTests } from "../ops/fill.cases";
import { fusedAttentionTests } from "../ops/fused_attention.cases";
import { gegluTests } from "../ops/geglu.cases";
import { geluTests } from "../ops/gelu.cases";
import { identityDistanceTests } from "../ops/identity_distance.cases";
import { inverseNormsTests } from "../ops/inverse_norms.cases";
import { layerNormTests } from "../ops/layer_norm.cases";
import { linearTests } from "../ops/linear.cases";
import { linearCrossEntropyTests } from "../ops/linear_cross_entropy.cases";
import { linearTokenCrossEntropyTests } from "../ops/linear_token_cross_entropy.cases";
import { lionTests } from "../ops/lion.cases";
import { loraImportanceTests } from "../ops/lora_importance.cases";
import { loraLinearTests } from "../ops/lora_linear.cases";
import { matmulTests } from "../ops/matmul.cases";
import { maxTests } from "../ops/max.cases";
import { meanAbsoluteTests } from "../ops/mean_absolute.cases";
import { meanSquaredErrorTests } from "../ops/mean_squared_error.cases";
import { mulTests } from "../ops/mul.cases";
import { muonTests } from "../ops/muon.cases";
import { muonMomentumTests } from "../ops/muon_momentum.cases";
import { newtonSchulzTests } from "../ops/newton_schulz.cases";
import { poolTokensTests } from "../ops/pool_tokens.cases";
import { prependTests } from "../ops/prepend.cases";
import { productMeanTests } from "../ops/product_mean.cases";
import { relativeAttentionTests } from "../ops/relative_attention.cases";
import { reluTests } from "../ops/relu.cases";
import { reshapeTests } from "../ops/reshape.cases";
import { rmsNormTests } from "../ops/rms_norm.cases";
import { ropeTests } from "../ops/rope.cases";
import { scaleTests } from "../ops/scale.cases";
import { scaleColumnsTests } from "../ops/scale_columns.cases";
import { scaleRowsTests } from "../ops/scale_rows.cases";
import { scaledAddTests } from "../ops/scaled_add.cases";
import { sensitivityTests } from "../ops/sensitivity.cases";
import { sgdTests } from "../ops/sgd.cases";
import { siluTests } from "../ops/silu.cases";
import { sliceTests } from "../ops/slice.cases";
import { softThresholdTests } from "../ops/soft_threshold.cases";
import { softmaxTests } from "../ops/softmax.cases";
import { squareSumTests } from "../ops/square_sum.cases";
import { sumTests } from "../ops/sum.cases";
import { swapAxesTests } from "../ops/swap_axes.cases";
import { swigluTests } from "../ops/swiglu.cases";
import { takeColumnsTests } from "../ops/take_columns.cases";
import { tanhTests } from "../ops/tanh.cases";
import { tokenCrossEntropyTests } from "../ops/token_cross_entropy.cases";
import { transposeTests } from "../ops/transpose.cases";
import { unaryTests } from "../ops/unary.cases";
import { unfoldTests } from "../ops/unfold.cases";
import { whereTests } from "../ops/where.cases";
import { ops } from "../ops/index";

/** What tests and benches read of every op. */
const TESTS: { readonly [K in keyof typeof ops]: TestsOf<(typeof ops)[K]> } = {
  adafactor: adafactorTests,
  adafactorVector: adafactorVectorTests,
  adam: adamTests,
  adamw: adamwTests,
  add: addTests,
  addBroadcast: addBroadcastTests,
  applyMask: applyMaskTests,
  arrangeRows: arrangeRowsTests,
  attention: attentionTests,
  binary: binaryTests,
  blockLinear: blockLinearTests,
  broadcastTo: broadcastToTests,
  cacheAppend: cacheAppendTests,
  cachedAttention: cachedAttentionTests,
  cayley: cayleyTests,
  cka: ckaTests,
  compare: compareTests,
  concat: concatTests,
  crop: cropTests,
  crossEntropy: crossEntropyTests,
  dropout: dropoutTests,
  embedding: embeddingTests,
  fill: fillTests,
  fusedAttention: fusedAttentionTests,
  geglu: gegluTests,
  gelu: geluTests,
  identityDistance: identityDistanceTests,
  inverseNorms: inverseNormsTests,
  layerNorm: layerNormTests,
  linear: linearTests,
  linearCrossEntropy: linearCrossEntropyTests,
  linearTokenCrossEntropy: linearTokenCrossEntropyTests,
  lion: lionTests,
  loraImportance: loraImportanceTests,
  loraLinear: loraLinearTests,
  matmul: matmulTests,
  max: maxTests,
  meanAbsolute: meanAbsoluteTests,
  meanSquaredError: meanSquaredErrorTests,
  mul: mulTests,
  muon: muonTests,
  muonMomentum: muonMomentumTests,
  newtonSchulz: newtonSchulzTests,
  poolTokens: poolTokensTests,
  prepend: prependTests,
  productMean: productMeanTests,
  relativeAttention: relativeAttentionTests,
  relu: reluTests,
  reshape: reshapeTests,
  rmsNorm: rmsNormTests,
  rope: ropeTests,
  scale: scaleTests,
  scaleColumns: scaleColumnsTests,
  scaleRows: scaleRowsTests,
  scaledAdd: scaledAddTests,
  sensitivity: sensitivityTests,
  sgd: sgdTests,
  silu: siluTests,
  slice: sliceTests,
  softThreshold: softThresholdTests,
  softmax: softmaxTests,
  squareSum: squareSumTests,
  sum: sumTests,
  swapAxes: swapAxesTests,
  swiglu: swigluTests,
  takeColumns: takeColumnsTests,
  tanh: tanhTests,
  tokenCrossEntropy: tokenCrossEntropyTests,
  transpose: transposeTests,
  unary: unaryTests,
  unfold: unfoldTests,
  where: whereTests,
};

const testsByKey: Readonly<Record<string, OpTests>> = TESTS;

/** Every op of this library, with its reference and cases. Tests and benches run over this list. */
export const OPS: readonly TestedOp[] = Object.entries(ops).map(([key, op]) => ({ ...op, ...testsByKey[key]! }));

/**
 * An op with the reference and cases of the shipped op of its name, unless it has its own.
 * @throws ConfigError for a value that is not an op.
 */
export function withTests(op: Op): Op {
  // A program without types may pass anything.
  const given: unknown = op;
  if (typeof given === "object" && given !== null && "infer" in given)
    return { ...OPS.find(({ name }) => name === op.name), ...op };
  throw new ConfigError(`The op is ${shown(given)}.`, "Give what defineOp() returns, or one of OPS, after the engine.");
}
