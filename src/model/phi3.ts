import * as v from "valibot";
import { activationOf, count, parseConfig, probability } from "./config";
import { decoder, DECODER_KEYS, GATE_ACTIVATIONS, headSizes, windowsOf } from "./decoder";
import type { Model } from "./model";
import { rotationOf } from "./rotation";

const SCHEMA = v.object({
  ...DECODER_KEYS,
  max_position_embeddings: v.optional(count, 4096),
  original_max_position_embeddings: v.nullish(count, 4096),
  rms_norm_eps: v.optional(v.number(), 1e-5),
  hidden_act: v.optional(v.string(), "silu"),
  embd_pdrop: v.optional(probability, 0),
  resid_pdrop: v.optional(probability, 0),
  sliding_window: v.nullish(count),
});

type Scaling = v.InferOutput<typeof SCHEMA>["rope_scaling"];

/** LongRoPE under its name of today. Early files of this family call it su or yarn. */
function renamed(scaling: Scaling): Scaling {
  const type = scaling?.rope_type ?? scaling?.type ?? "";
  return scaling && ["su", "yarn"].includes(type) ? { ...scaling, rope_type: "longrope" } : scaling;
}

/** Phi-3 (Abdin et al. 2024), Phi-4-mini: LLaMA with fused projections, and positions scaled by LongRoPE. */
export function phi3(config: Readonly<Record<string, unknown>>): Model {
  const c = parseConfig(SCHEMA, config);
  const scaling = { ...c, rope_scaling: renamed(c.rope_scaling), rope_parameters: renamed(c.rope_parameters) };
  return decoder({
    family: "phi3",
    config,
    c,
    eps: c.rms_norm_eps,
    tasks: ["causal_lm", "sequence_classification"],
    queryKeyValue: "rows",
    gate: "fused",
    activation: activationOf(c.hidden_act, GATE_ACTIVATIONS),
    rotations: { rotation: rotationOf(scaling, { ...headSizes(c), maxLength: c.max_position_embeddings, share: 1 }) },
    attentionOf: windowsOf(c, () => true),
    // transformers declares embd_pdrop, but drops no embeddings.
    dropout: { embeddings: 0, hidden: c.resid_pdrop },
    defaultTargets: ["qkv_proj", "o_proj"],
  });
}
