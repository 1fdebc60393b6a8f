import * as v from "valibot";
import { activationOf, parseConfig } from "./config";
import { decoder, DECODER_KEYS, GATE_ACTIVATIONS } from "./decoder";
import type { Model } from "./model";

const SCHEMA = v.object({
  ...DECODER_KEYS,
  rms_norm_eps: v.optional(v.number(), 1e-5),
  hidden_act: v.optional(v.string(), "silu"),
  attention_bias: v.optional(v.boolean(), false),
});

/** OLMo 2 (OLMo team 2024): norms of what sub-layers give instead of what they read, and of all queries and all keys. */
export function olmo2(config: Readonly<Record<string, unknown>>): Model {
  const c = parseConfig(SCHEMA, config);
  return decoder({
    family: "olmo2",
    config,
    c,
    eps: c.rms_norm_eps,
    tasks: ["causal_lm", "sequence_classification"],
    activation: activationOf(c.hidden_act, GATE_ACTIVATIONS),
    norms: {
      attention: { after: "post_attention_layernorm" },
      feedForward: { after: "post_feedforward_layernorm" },
    },
    headNorms: "width",
    biases: { queryKeyValue: c.attention_bias, attentionOutput: c.attention_bias },
    biasKeys: { attention_bias: ["query", "key", "value", "attention_output"] },
  });
}
