import * as v from "valibot";
import { activationOf, parseConfig, probability } from "./config";
import { decoder, DECODER_KEYS, GATE_ACTIVATIONS, headSizes } from "./decoder";
import type { Model } from "./model";
import { rotationOf } from "./rotation";

const { silu: _, swish: __, ...GELU } = GATE_ACTIVATIONS;
const SCHEMA = v.object({
  ...DECODER_KEYS,
  layer_norm_eps: v.optional(v.number(), 1e-5),
  hidden_act: v.optional(v.string(), "gelu"),
  hidden_dropout: v.optional(probability, 0),
  attention_bias: v.optional(v.boolean(), true),
  use_parallel_residual: v.optional(v.boolean(), true),
  rotary_pct: v.optional(v.pipe(v.number(), v.gtValue(0), v.maxValue(1)), 0.25),
  rotary_emb_base: v.optional(v.pipe(v.number(), v.gtValue(0)), 10000),
});

/** GPT-NeoX (Black et al. 2022), Pythia: layer norms, parallel sub-layers, rotary positions of a part of each head. */
export function gptNeoX(config: Readonly<Record<string, unknown>>): Model {
  const c = parseConfig(SCHEMA, config);
  const sizes = { ...headSizes(c), maxLength: c.max_position_embeddings };
  // transformers reads these two keys under the family's own names alone.
  const scaling = { ...c, rope_theta: undefined, partial_rotary_factor: undefined };
  return decoder({
    family: "gpt_neox",
    config,
    c,
    eps: c.layer_norm_eps,
    names: {
      body: "gpt_neox",
      answeringBody: "gpt_neox",
      embeddings: "embed_in",
      finalNorm: "final_layer_norm",
      output: "embed_out",
      attention: "attention",
      queryKeyValue: "query_key_value",
      attentionOutput: "dense",
      up: "dense_h_to_4h",
      down: "dense_4h_to_h",
    },
    queryKeyValue: "heads",
    gate: "none",
    activation: activationOf(c.hidden_act, GELU),
    biases: { queryKeyValue: c.attention_bias, attentionOutput: c.attention_bias, feedForward: true },
    biasKeys: { attention_bias: ["query_key_value", "attention_output"] },
    norms: {
      kind: "layer",
      attention: { before: "input_layernorm" },
      feedForward: { before: "post_attention_layernorm" },
    },
    rotations: { rotation: rotationOf(scaling, { ...sizes, theta: c.rotary_emb_base, share: c.rotary_pct }) },
    isParallel: c.use_parallel_residual,
    dropout: { embeddings: c.hidden_dropout, hidden: c.hidden_dropout },
    defaultTargets: ["query_key_value"],
    renamed: (module) => module.replace(/^embed_out\b/, "lm_head"),
  });
}
