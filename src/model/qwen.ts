import * as v from "valibot";
import { activationOf, count, parseConfig } from "./config";
import { decoder, DECODER_KEYS, GATE_ACTIVATIONS, LAYER_TYPES, windowsOf } from "./decoder";
import type { Model } from "./model";

const SCHEMA = v.object({
  ...DECODER_KEYS,
  max_position_embeddings: v.optional(count, 32768),
  rms_norm_eps: v.optional(v.number(), 1e-6),
  hidden_act: v.optional(v.string(), "silu"),
  use_sliding_window: v.nullish(v.boolean(), false),
  sliding_window: v.nullish(count),
  max_window_layers: v.nullish(v.pipe(v.number(), v.integer(), v.minValue(0)), 28),
  layer_types: LAYER_TYPES,
});

/** Keys that Qwen 3 has in addition. */
const SCHEMA_3 = v.object({
  ...SCHEMA.entries,
  head_dim: v.nullish(count, 128),
  attention_bias: v.optional(v.boolean(), false),
});

/** What Qwen 2 and 3 share: LLaMA's layers, of which the upper ones may attend to a window. */
function qwen(family: string, config: Readonly<Record<string, unknown>>, c: v.InferOutput<typeof SCHEMA>) {
  const isWindowed = (layer: number): boolean => c.use_sliding_window && layer >= c.max_window_layers;
  return {
    family,
    config,
    c,
    eps: c.rms_norm_eps,
    activation: activationOf(c.hidden_act, GATE_ACTIVATIONS),
    attentionOf: windowsOf(
      { ...c, sliding_window: c.use_sliding_window ? (c.sliding_window ?? 4096) : null },
      isWindowed,
    ),
  };
}

/** Qwen 2 and 2.5 (Yang et al. 2024): LLaMA with biases of queries, keys and values. */
export function qwen2(config: Readonly<Record<string, unknown>>): Model {
  const c = parseConfig(SCHEMA, config);
  return decoder({ ...qwen("qwen2", config, c), biases: { queryKeyValue: true } });
}

/** Qwen 3 (Yang et al. 2025): LLaMA with norms of each head's queries and keys. */
export function qwen3(config: Readonly<Record<string, unknown>>): Model {
  const c = parseConfig(SCHEMA_3, config);
  return decoder({
    ...qwen("qwen3", config, c),
    headNorms: "head",
    biases: { queryKeyValue: c.attention_bias, attentionOutput: c.attention_bias },
    biasKeys: { attention_bias: ["query", "key", "value", "attention_output"] },
  });
}
