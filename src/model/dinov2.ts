import * as v from "valibot";
import { count, only, parseConfig } from "./config";
import type { LayerModules } from "./encoder-layer";
import { classAndMeanWeights, pooledClassifier } from "./heads";
import type { Model } from "./model";
import { RENAMED_ATTENTION, VISION_KEYS, visionEncoder } from "./vision-encoder";

const SCHEMA = v.object({
  ...VISION_KEYS,
  mlp_ratio: v.optional(v.pipe(v.number(), v.minValue(0)), 4),
  patch_size: v.optional(count, 14),
  layer_norm_eps: v.optional(v.number(), 1e-6),
  drop_path_rate: only(0),
  use_swiglu_ffn: only(false),
});

const MODULES: LayerModules = {
  query: "attention.attention.query",
  key: "attention.attention.key",
  value: "attention.attention.value",
  attentionOutput: "attention.output.dense",
  attentionNorm: "norm1",
  attentionScale: "layer_scale1.lambda1",
  feedForwardIn: "mlp.fc1",
  feedForwardOut: "mlp.fc2",
  feedForwardNorm: "norm2",
  feedForwardScale: "layer_scale2.lambda1",
  attention: "attention",
  feedForward: "mlp",
};

/**
 * DINOv2 (Oquab et al. 2024): ViT whose sub-layers' outputs are scaled by learned vectors; the classifier reads the class token
 * beside the mean of the patches. Images have the size of the table of positions, which is not interpolated.
 */
export function dinov2(config: Readonly<Record<string, unknown>>): Model {
  const c = parseConfig(SCHEMA, config);
  return visionEncoder({
    family: "dinov2",
    config,
    c,
    neurons: Math.trunc(c.hidden_size * c.mlp_ratio),
    modules: MODULES,
    tokens: ["cls_token"],
    renames: RENAMED_ATTENTION,
    constants: (tokens) => ({ class_and_mean: classAndMeanWeights(tokens) }),
    head: (norm) => pooledClassifier(config, { hidden: c.hidden_size, norm, weights: "class_and_mean", sums: 2 }),
  });
}
