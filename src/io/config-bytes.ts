import { jsonBytes } from "./json";

/**
 * Keys that transformers 5 declares as floats: it refuses 1 where it wrote 1.0, and JavaScript does not tell them apart. The last line has those
 * of rotations, for which it warns.
 */
const FLOATS = [
  ...[
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "decoder_layerdrop",
    "encoder_layerdrop",
    "layerscale_value",
  ],
  ...["init_std", "initializer_cutoff_factor", "initializer_factor", "initializer_range"],
  ...["layer_norm_eps", "layer_norm_epsilon", "norm_eps", "rms_norm_eps"],
  ...["factor", "low_freq_factor", "high_freq_factor", "attention_factor", "beta_fast", "beta_slow"],
];

/** config.json as transformers reads it again: whole numbers of such keys have a decimal place. */
export function configBytes(config: Readonly<Record<string, unknown>>): Uint8Array {
  // It is a float of Swin v2, either of Swin, and a whole number of DINOv2.
  const names = config["model_type"] === "swinv2" ? [...FLOATS, "mlp_ratio"] : FLOATS;
  const line = new RegExp(`^( *"(?:${names.join("|")})": -?\\d+)(,?)$`, "gm");
  return new TextEncoder().encode(new TextDecoder().decode(jsonBytes(config)).replace(line, "$1.0$2"));
}
