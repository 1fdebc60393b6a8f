import * as v from "valibot";
import { activationOf, count, GELU_ACTIVATIONS, layerCount, only, parseConfig, probability } from "./config";
import type { LayerModules } from "./encoder-layer";
import { firstTokenClassifier, taskOf } from "./heads";
import type { Model } from "./model";
import { ENCODER_TASKS, encoderHead, textEncoder } from "./text-encoder";

const SCHEMA = v.object({
  vocab_size: v.optional(count, 30000),
  embedding_size: v.optional(count, 128),
  hidden_size: count,
  num_hidden_layers: layerCount,
  num_hidden_groups: only(1),
  inner_group_num: only(1),
  num_attention_heads: count,
  intermediate_size: count,
  max_position_embeddings: v.optional(count, 512),
  type_vocab_size: v.optional(count, 2),
  layer_norm_eps: v.optional(v.number(), 1e-12),
  hidden_act: v.optional(v.string(), "gelu_new"),
  hidden_dropout_prob: v.optional(probability, 0),
  attention_probs_dropout_prob: v.optional(probability, 0),
  classifier_dropout_prob: v.optional(probability, 0.1),
  position_embedding_type: only("absolute"),
  pad_token_id: v.nullish(v.pipe(v.number(), v.integer(), v.minValue(0)), 0),
});

const MODULES: LayerModules = {
  query: "attention.query",
  key: "attention.key",
  value: "attention.value",
  attentionOutput: "attention.dense",
  attentionNorm: "attention.LayerNorm",
  feedForwardIn: "ffn",
  feedForwardOut: "ffn_output",
  feedForwardNorm: "full_layer_layer_norm",
  attention: "attention",
  feedForward: "ffn_output",
};

/**
 * ALBERT (Lan et al. 2020): BERT whose layers are one layer, used `num_hidden_layers` times, on projected embeddings. An adapter
 * of it is shared in the same way, its gradient is the sum over all uses, and no layer can freeze alone.
 */
export function albert(config: Readonly<Record<string, unknown>>): Model {
  const c = parseConfig(SCHEMA, config);
  const task = taskOf(config, "albert", ENCODER_TASKS, "sequence_classification");
  const dropout = c.classifier_dropout_prob;
  return textEncoder({
    family: "albert",
    prefix: "albert",
    config,
    head: encoderHead(config, {
      task,
      hidden: c.hidden_size,
      tokenDropout: dropout,
      classifier: () =>
        firstTokenClassifier(config, {
          task,
          hidden: c.hidden_size,
          dense: "albert.pooler",
          activation: "tanh",
          dropout,
        }),
    }),
    otherHeads: ["predictions", "sop_classifier"],
    layers: {
      count: c.num_hidden_layers,
      path: () => "albert.encoder.albert_layer_groups.0.albert_layers.0",
      modules: MODULES,
      norms: "after",
      hidden: c.hidden_size,
      heads: c.num_attention_heads,
      neurons: c.intermediate_size,
      eps: c.layer_norm_eps,
      approximation: activationOf(c.hidden_act, GELU_ACTIVATIONS),
      dropout: { weights: c.attention_probs_dropout_prob, attention: c.hidden_dropout_prob, feedForward: 0 },
      isShared: true,
    },
    vocabulary: c.vocab_size,
    padId: c.pad_token_id,
    positions: { rows: c.max_position_embeddings, kind: "absolute" },
    tokenTypes: c.type_vocab_size,
    dropout: c.hidden_dropout_prob,
    projected: { module: "encoder.embedding_hidden_mapping_in", width: c.embedding_size },
    defaultTargets: ["query", "value"],
  });
}
