import * as v from "valibot";
import { ConfigError } from "../base/errors";
import type { Model } from "../model/model";
import type { GgufMetadata } from "./file";
import type { Sizes } from "./sizes";

type Keys = Readonly<Record<string, unknown>>;

/** What llama.cpp takes for granted of a family: a key of config.json, and the values that it computes. */
interface Fixed {
  readonly key: string;
  readonly allowed: (value: unknown, sizes: Sizes) => boolean;
  readonly needed: string;
}

const isOneOf =
  (...values: readonly unknown[]) =>
  (value: unknown): boolean =>
    value === undefined || values.includes(value);

const SILU: Fixed = { key: "hidden_act", allowed: isOneOf("silu", "swish"), needed: "silu" };
const GELU: Fixed = {
  key: "hidden_activation",
  allowed: isOneOf(null, "gelu_pytorch_tanh"),
  needed: "gelu_pytorch_tanh",
};
const NO_WINDOW: Fixed = { key: "sliding_window", allowed: isOneOf(null), needed: "null" };
const UNUSED_WINDOW: Fixed = { key: "use_sliding_window", allowed: isOneOf(null, false), needed: "false" };
/** llama.cpp scales scores by the size of a head. */
const HEAD_SCALE: Fixed = {
  key: "query_pre_attn_scalar",
  allowed: (value, { headSize }) => (value ?? 256) === headSize,
  needed: "head_dim",
};
const alternating = (every: number): Fixed => ({
  key: "layer_types",
  allowed: (value) =>
    !Array.isArray(value) || value.every((type, layer) => (type === "full_attention") === ((layer + 1) % every === 0)),
  needed: `full_attention in every ${every}th layer alone`,
});

const LOCAL = v.nullish(
  v.looseObject({
    sliding_attention: v.nullish(
      v.looseObject({
        rope_type: v.nullish(v.literal("default")),
        rope_theta: v.nullish(v.literal(10000)),
        partial_rotary_factor: v.nullish(v.literal(1)),
      }),
    ),
  }),
);

/** The base of Gemma 3's rotations in windows, where transformers 5 has it. */
const LOCAL_BASE: Fixed = {
  key: "rope_parameters",
  allowed: (value) => v.is(LOCAL, value),
  needed: "a rope_theta of 10000 in sliding_attention, without scaling",
};

const FIXED: Readonly<Record<string, readonly Fixed[]>> = {
  llama: [SILU],
  mistral: [SILU, NO_WINDOW],
  qwen2: [SILU, UNUSED_WINDOW],
  qwen3: [SILU, UNUSED_WINDOW],
  gemma2: [GELU, HEAD_SCALE, alternating(2)],
  gemma3_text: [
    GELU,
    HEAD_SCALE,
    alternating(6),
    { key: "sliding_window_pattern", allowed: isOneOf(null, 6), needed: "6" },
    LOCAL_BASE,
    { key: "rope_local_base_freq", allowed: isOneOf(null, 10000), needed: "10000" },
    { key: "attn_logit_softcapping", allowed: isOneOf(null), needed: "null" },
    { key: "final_logit_softcapping", allowed: isOneOf(null), needed: "null" },
  ],
  phi3: [SILU],
};

/** @throws ConfigError for a key whose value llama.cpp would pass over. */
function checkFixed({ family }: Model, config: Keys, sizes: Sizes): void {
  for (const { key, allowed, needed } of FIXED[family] ?? []) {
    const { [key]: value } = config;
    if (allowed(value, sizes)) continue;
    throw new ConfigError(
      `config.json: ${key} is ${JSON.stringify(value)}, which llama.cpp does not compute for ${family}.`,
      `It runs such models with ${needed}.`,
    );
  }
}

/** Keys that a family has besides those of all. */
function furtherKeys({ family }: Model, config: Keys, sizes: Sizes): GgufMetadata {
  const window = (fallback?: number): GgufMetadata => {
    const size = sizes.sliding_window ?? fallback;
    return size === undefined ? {} : { "attention.sliding_window": { u32: size } };
  };
  const cap = (key: string, fallback: number): number => Number(config[key] ?? fallback);
  if (family === "phi3") return window();
  if (family === "gemma3_text") return window(4096);
  if (family !== "gemma2") return {};
  for (const key of ["attn_logit_softcapping", "final_logit_softcapping"]) {
    if (config[key] === null) {
      throw new ConfigError(
        `config.json: ${key} is null, and llama.cpp caps logits of gemma2.`,
        "Such a model cannot be exported.",
      );
    }
  }
  return {
    ...window(4096),
    attn_logit_softcapping: { f32: cap("attn_logit_softcapping", 50) },
    final_logit_softcapping: { f32: cap("final_logit_softcapping", 30) },
  };
}

/** Default of `rms_norm_eps` by family, as transformers has it. */
const EPS: Readonly<Record<string, number>> = { phi3: 1e-5 };

/** The sizes and numbers of a model, by keys without the architecture. @throws ConfigError for values that llama.cpp passes over. */
export function modelMetadata(model: Model, config: Keys, sizes: Sizes): GgufMetadata {
  checkFixed(model, config, sizes);
  return {
    context_length: { u32: sizes.maxLength },
    embedding_length: { u32: sizes.hidden_size },
    block_count: { u32: sizes.num_hidden_layers },
    feed_forward_length: { u32: sizes.intermediate_size },
    "attention.head_count": { u32: sizes.heads },
    "attention.head_count_kv": { u32: sizes.kvHeads },
    "attention.layer_norm_rms_epsilon": { f32: sizes.rms_norm_eps ?? EPS[model.family] ?? 1e-6 },
    "attention.key_length": { u32: sizes.headSize },
    "attention.value_length": { u32: sizes.headSize },
    vocab_size: { u32: sizes.vocab_size },
    ...furtherKeys(model, config, sizes),
  };
}
