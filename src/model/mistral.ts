import * as v from "valibot";
import { activationOf, count, parseConfig } from "./config";
import { decoder, DECODER_KEYS, GATE_ACTIVATIONS, windowsOf } from "./decoder";
import type { Model } from "./model";

const SCHEMA = v.object({
  ...DECODER_KEYS,
  max_position_embeddings: v.optional(count, 131072),
  rms_norm_eps: v.optional(v.number(), 1e-6),
  hidden_act: v.optional(v.string(), "silu"),
  sliding_window: v.optional(v.nullable(count), 4096),
});

/** Mistral 7B (Jiang et al. 2023): LLaMA whose tokens attend to a window. */
export function mistral(config: Readonly<Record<string, unknown>>): Model {
  const c = parseConfig(SCHEMA, config);
  return decoder({
    family: "mistral",
    config,
    c,
    eps: c.rms_norm_eps,
    names: { answeringBody: "model" },
    activation: activationOf(c.hidden_act, GATE_ACTIVATIONS),
    attentionOf: windowsOf(c, () => true),
  });
}
