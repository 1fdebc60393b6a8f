import { ConfigError } from "../base/errors";
import { rotationOf } from "../model/rotation";
import type { GgufMetadata, GgufTensor } from "./file";
import type { Sizes } from "./sizes";

/** How positions turn heads, as GGUF says it: keys without the architecture, and tensors of divisors. */
export interface GgufRope {
  readonly metadata: GgufMetadata;
  readonly tensors: readonly GgufTensor[];
}

type Keys = Readonly<Record<string, unknown>>;

const isKeys = (value: unknown): value is Keys => typeof value === "object" && value !== null;
const keysIn = (value: unknown): Keys => (isKeys(value) ? value : {});

/** The keys of positions of config.json, from where transformers 4 or 5 has them. */
function keysOf(config: Keys): Keys {
  const { rope_theta, rope_scaling: scaling, rope_parameters: parameters } = config;
  const { full_attention: full } = keysIn(parameters);
  return { rope_theta, ...keysIn(full ?? parameters), ...keysIn(scaling) };
}

/** What a family's code says where config.json is silent, by `model_type`; of other families 10000 and the longest text. */
const DEFAULTS: Readonly<Record<string, { readonly theta?: number; readonly originalLength?: number }>> = {
  gemma3_text: { theta: 1_000_000 },
  phi3: { originalLength: 4096 },
};

/**
 * Divisors and factors are those that the model itself rotates by.
 * @throws ConfigError for a scaling that llama.cpp has no keys for.
 */
export function ggufRope(family: string, config: Keys, sizes: Sizes): GgufRope {
  const { theta = 10000, originalLength } = DEFAULTS[family] ?? {};
  const keys = keysOf(config);
  const named = keys["rope_type"] ?? keys["type"];
  const type = typeof named === "string" ? named : "default";
  const base = Number(keys["rope_theta"] ?? theta);
  const share = Number(keys["partial_rotary_factor"] ?? config["partial_rotary_factor"] ?? 1);
  const turning = Math.trunc(sizes.headSize * share);
  const common: GgufMetadata = { "rope.dimension_count": { u32: turning }, "rope.freq_base": { f32: base } };
  const divisors = (name: string, values: readonly number[]): GgufTensor => ({
    name,
    shape: [values.length],
    format: "f32",
    read: () => Promise.resolve(Float32Array.from(values)),
  });
  if (type === "default") return { metadata: common, tensors: [] };
  if (type === "linear") {
    const scaling: GgufMetadata = {
      "rope.scaling.type": { string: "linear" },
      "rope.scaling.factor": { f32: Number(keys["factor"]) },
    };
    return { metadata: { ...common, ...scaling }, tensors: [] };
  }
  const rotation = (rope_type: string) => {
    const original = config["original_max_position_embeddings"] ?? keys["original_max_position_embeddings"];
    return rotationOf(
      {
        rope_parameters: { ...keys, rope_theta: base, rope_type, partial_rotary_factor: share },
        original_max_position_embeddings: typeof original === "number" ? original : originalLength,
      },
      { headSize: sizes.headSize, maxLength: sizes.maxLength },
    );
  };
  if (type === "llama3") {
    const { frequencies } = rotation(type);
    const slowed = [...frequencies].map((frequency, i) => base ** ((-2 * i) / turning) / frequency);
    return { metadata: common, tensors: [divisors("rope_freqs.weight", slowed)] };
  }
  // Early files of Phi-3 call it su or yarn.
  if (["longrope", "su"].includes(type) || (type === "yarn" && keys["long_factor"] !== undefined)) {
    const { factor, long } = rotation("longrope");
    const scaling: GgufMetadata = {
      "rope.scaling.original_context_length": { u32: long?.above ?? sizes.maxLength },
      "rope.scaling.attn_factor": { f32: factor },
    };
    const tensors = ["long", "short"].map((name) =>
      // The family has checked the configuration: both are lists of numbers.
      divisors(`rope_factors_${name}.weight`, keys[`${name}_factor`] as readonly number[]),
    );
    return { metadata: { ...common, ...scaling }, tensors };
  }
  throw new ConfigError(
    `config.json: rope_type ${type} is not exported to GGUF.`,
    "Exported are default, linear, llama3 and longrope.",
  );
}
