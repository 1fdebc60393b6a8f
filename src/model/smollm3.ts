import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { activationOf, count, parseConfig } from "./config";
import { decoder, DECODER_KEYS, GATE_ACTIVATIONS, headSizes, LAYER_TYPES, windowsOf } from "./decoder";
import type { Model } from "./model";
import { rotationOf } from "./rotation";

const SCHEMA = v.object({
  ...DECODER_KEYS,
  max_position_embeddings: v.optional(count, 32768),
  rms_norm_eps: v.optional(v.number(), 1e-6),
  hidden_act: v.optional(v.string(), "silu"),
  tie_word_embeddings: v.optional(v.boolean(), true),
  attention_bias: v.optional(v.boolean(), false),
  mlp_bias: v.optional(v.boolean(), false),
  /** 1 for layers that have rotary positions. */
  no_rope_layers: v.nullish(v.array(v.picklist([0, 1]))),
  no_rope_layer_interval: v.nullish(count, 4),
  use_sliding_window: v.nullish(v.boolean(), false),
  sliding_window: v.nullish(count),
  layer_types: LAYER_TYPES,
});

/** SmolLM3 (Hugging Face 2025): LLaMA without positions in every fourth layer. */
export function smollm3(config: Readonly<Record<string, unknown>>): Model {
  const c = parseConfig(SCHEMA, config);
  const { no_rope_layers: flags, no_rope_layer_interval: interval, num_hidden_layers: layers } = c;
  if (flags && flags.length < layers) {
    throw new ConfigError(
      `config.json: no_rope_layers has ${flags.length} entries for ${layers} layers.`,
      "Give one for each layer: 1 where it has rotary positions.",
    );
  }
  const hasPositions = (layer: number): boolean => (flags ? flags[layer] === 1 : (layer + 1) % interval !== 0);
  const sizes = { ...headSizes(c), maxLength: c.max_position_embeddings, theta: 2_000_000 };
  return decoder({
    family: "smollm3",
    config,
    c,
    eps: c.rms_norm_eps,
    activation: activationOf(c.hidden_act, GATE_ACTIVATIONS),
    rotations: { rotation: rotationOf(c, sizes) },
    rotationOf: (layer) => (hasPositions(layer) ? "rotation" : undefined),
    attentionOf: windowsOf(
      { ...c, sliding_window: c.use_sliding_window ? c.sliding_window : null },
      (layer) => !hasPositions(layer),
    ),
    biases: { queryKeyValue: c.attention_bias, attentionOutput: c.attention_bias, feedForward: c.mlp_bias },
    biasKeys: {
      attention_bias: ["query", "key", "value", "attention_output"],
      mlp_bias: ["feed_forward_in", "feed_forward_out"],
    },
  });
}
