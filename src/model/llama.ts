import * as v from "valibot";
import { activationOf, parseConfig } from "./config";
import { decoder, DECODER_KEYS, GATE_ACTIVATIONS } from "./decoder";
import type { Model } from "./model";

const SCHEMA = v.object({
  ...DECODER_KEYS,
  rms_norm_eps: v.optional(v.number(), 1e-6),
  hidden_act: v.optional(v.string(), "silu"),
  attention_bias: v.optional(v.boolean(), false),
  mlp_bias: v.optional(v.boolean(), false),
});

/** LLaMA-2 and -3 (Touvron et al. 2023): pre-norm, rotary positions, grouped queries, gated feed-forward. */
export function llama(config: Readonly<Record<string, unknown>>): Model {
  const c = parseConfig(SCHEMA, config);
  return decoder({
    family: "llama",
    config,
    c,
    eps: c.rms_norm_eps,
    activation: activationOf(c.hidden_act, GATE_ACTIVATIONS),
    biases: { queryKeyValue: c.attention_bias, attentionOutput: c.attention_bias, feedForward: c.mlp_bias },
    biasKeys: {
      attention_bias: ["query", "key", "value", "attention_output"],
      mlp_bias: ["feed_forward_in", "feed_forward_out"],
    },
  });
}
