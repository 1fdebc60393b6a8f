import * as v from "valibot";
import { count, parseConfig } from "./config";
import type { LayerModules } from "./encoder-layer";
import { imageClassifier } from "./heads";
import type { Model } from "./model";
import { RENAMED_ATTENTION, VISION_KEYS, visionEncoder } from "./vision-encoder";

const SCHEMA = v.object({
  ...VISION_KEYS,
  intermediate_size: count,
  patch_size: v.optional(count, 16),
  layer_norm_eps: v.optional(v.number(), 1e-12),
});

const MODULES: LayerModules = {
  query: "attention.attention.query",
  key: "attention.attention.key",
  value: "attention.attention.value",
  attentionOutput: "attention.output.dense",
  attentionNorm: "layernorm_before",
  feedForwardIn: "intermediate.dense",
  feedForwardOut: "output.dense",
  feedForwardNorm: "layernorm_after",
  attention: "attention",
  feedForward: "output",
};

/** ViT (Dosovitskiy et al. 2021), pre-norm, with Hugging Face's classifier on the class token. */
export const vit = (config: Readonly<Record<string, unknown>>): Model => encoder("vit", config, ["cls_token"]);

/**
 * DeiT (Touvron et al. 2021): ViT with a distillation token behind the class token. The classifier reads the class token, as in
 * Hugging Face's `DeiTForImageClassification`.
 */
export const deit = (config: Readonly<Record<string, unknown>>): Model =>
  encoder("deit", config, ["cls_token", "distillation_token"]);

function encoder(family: string, config: Readonly<Record<string, unknown>>, tokens: readonly string[]): Model {
  const c = parseConfig(SCHEMA, config);
  return visionEncoder({
    family,
    config,
    c,
    neurons: c.intermediate_size,
    modules: MODULES,
    tokens,
    renames: [
      [new RegExp(`^${family}\\.encoder\\.layer\\.`), `${family}.layers.`],
      ...RENAMED_ATTENTION,
      [/\.intermediate\.dense$/, ".mlp.fc1"],
      [/\.output\.dense$/, ".mlp.fc2"],
    ],
    head: (norm) => imageClassifier(config, c.hidden_size, norm),
  });
}
