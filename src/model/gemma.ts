import * as v from "valibot";
import { activationOf, count, only, parseConfig } from "./config";
import { decoder, DECODER_KEYS, GATE_ACTIVATIONS, headSizes, LAYER_TYPES, windowsOf } from "./decoder";
import type { Decoder } from "./decoder";
import type { Model } from "./model";
import { rotationOf } from "./rotation";

const POSITIVE = v.pipe(v.number(), v.gtValue(0));
const SCHEMA_2 = v.object({
  ...DECODER_KEYS,
  head_dim: v.nullish(count, 256),
  max_position_embeddings: v.optional(count, 8192),
  rms_norm_eps: v.optional(v.number(), 1e-6),
  hidden_activation: v.nullish(v.string(), "gelu_pytorch_tanh"),
  tie_word_embeddings: v.optional(v.boolean(), true),
  attention_bias: v.optional(v.boolean(), false),
  query_pre_attn_scalar: v.optional(POSITIVE, 256),
  sliding_window: v.nullish(count, 4096),
  layer_types: LAYER_TYPES,
  attn_logit_softcapping: v.optional(v.nullable(POSITIVE), 50),
  final_logit_softcapping: v.optional(v.nullable(POSITIVE), 30),
  use_bidirectional_attention: only(false),
});

const SCHEMA_3 = v.object({
  ...SCHEMA_2.entries,
  max_position_embeddings: v.optional(count, 131072),
  /** transformers does not use what it reads of it. */
  attn_logit_softcapping: v.nullish(v.null()),
  final_logit_softcapping: v.nullish(POSITIVE),
  /** One of as many layers attends to everything. */
  sliding_window_pattern: v.nullish(count, 6),
  rope_local_base_freq: v.optional(POSITIVE, 10000),
  rope_parameters: v.nullish(v.record(v.string(), v.nullish(v.looseObject({})))),
});

type Config = Omit<
  v.InferOutput<typeof SCHEMA_2>,
  "rope_parameters" | "attn_logit_softcapping" | "final_logit_softcapping"
> & {
  readonly attn_logit_softcapping?: number | null | undefined;
  readonly final_logit_softcapping?: number | null | undefined;
};

/** What Gemma 2 and 3 share: norms of 1 + weight before and after sub-layers, scaled embeddings, caps, windows. */
function gemma(family: string, config: Decoder["config"], c: Config, isWindowed: (layer: number) => boolean) {
  const windowOf = windowsOf(c, isWindowed);
  return {
    family,
    config,
    eps: c.rms_norm_eps,
    tasks: ["causal_lm", "sequence_classification"],
    activation: activationOf(c.hidden_activation, GATE_ACTIVATIONS),
    biases: { queryKeyValue: c.attention_bias, attentionOutput: c.attention_bias },
    biasKeys: { attention_bias: ["query", "key", "value", "attention_output"] },
    norms: {
      offset: 1,
      attention: { before: "input_layernorm", after: "post_attention_layernorm" },
      feedForward: { before: "pre_feedforward_layernorm", after: "post_feedforward_layernorm" },
    },
    attentionOf: (layer: number) => ({
      ...windowOf(layer),
      scale: c.query_pre_attn_scalar ** -0.5,
      cap: c.attn_logit_softcapping ?? undefined,
    }),
    embeddingScale: Math.sqrt(c.hidden_size),
    logitCap: c.final_logit_softcapping ?? undefined,
  } as const;
}

/** Gemma 2 (Gemma team 2024): every second layer attends to a window. */
export function gemma2(config: Readonly<Record<string, unknown>>): Model {
  const c = parseConfig(SCHEMA_2, config);
  return decoder({ ...gemma("gemma2", config, c, (layer) => layer % 2 === 0), c });
}

/** Gemma 3, texts (Gemma team 2025): norms of each head's queries and keys; layers with a window have a rotation of their own. */
export function gemma3(config: Readonly<Record<string, unknown>>): Model {
  const c = parseConfig(SCHEMA_3, config);
  const isFull = (layer: number): boolean =>
    c.layer_types ? c.layer_types[layer] === "full_attention" : (layer + 1) % c.sliding_window_pattern === 0;
  const sizes = { ...headSizes({ ...c, rope_parameters: null }), maxLength: c.max_position_embeddings };
  // A scaling at the top level, as in older files, is that of layers without a window.
  const { full_attention: full, sliding_attention: local } = c.rope_parameters ?? {};
  const ofFull = { ...full, ...c.rope_scaling };
  const { rope_theta, partial_rotary_factor } = c;
  const rotation = rotationOf(
    { rope_theta, partial_rotary_factor, rope_scaling: ofFull },
    { ...sizes, theta: 1_000_000 },
  );
  const localRotation = rotationOf({ rope_scaling: { ...local } }, { ...sizes, theta: c.rope_local_base_freq });
  return decoder({
    ...gemma("gemma3_text", config, c, (layer) => !isFull(layer)),
    c: { ...c, rope_parameters: null },
    headNorms: "head",
    rotations: { rotation, "rotation in windows": localRotation },
    rotationOf: (layer) => (isFull(layer) ? "rotation" : "rotation in windows"),
  });
}
