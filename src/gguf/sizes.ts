import * as v from "valibot";
import { parseConfig } from "../model/config";
import type { Model } from "../model/model";

const count = v.pipe(v.number(), v.integer(), v.minValue(1));
const SCHEMA = v.object({
  vocab_size: count,
  hidden_size: count,
  intermediate_size: count,
  num_hidden_layers: count,
  num_attention_heads: count,
  num_key_value_heads: v.nullish(count),
  rms_norm_eps: v.optional(v.number()),
  sliding_window: v.nullish(count),
});

/** The numbers of config.json that GGUF's metadata has, too, with what a family's defaults make of the others. */
export function sizesOf(config: Readonly<Record<string, unknown>>, model: Model) {
  const c = parseConfig(SCHEMA, config);
  const heads = c.num_attention_heads;
  const kvHeads = c.num_key_value_heads ?? heads;
  const rowsOf = (end: string): number | undefined =>
    model.parameters.find(({ name }) => name.endsWith(`${end}.weight`))?.shape[0];
  const ofQueries = rowsOf("self_attn.q_proj");
  const headSize = ofQueries === undefined ? rowsOf("self_attn.qkv_proj")! / (heads + 2 * kvHeads) : ofQueries / heads;
  return { ...c, heads, kvHeads, headSize, maxLength: model.maxLength };
}

export type Sizes = ReturnType<typeof sizesOf>;
