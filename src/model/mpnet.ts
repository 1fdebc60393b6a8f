import * as v from "valibot";
import { activationOf, count, GELU_ACTIVATIONS, layerCount, parseConfig, probability } from "./config";
import type { LayerModules } from "./encoder-layer";
import { denseClassifier, taskOf } from "./heads";
import type { Model } from "./model";
import { relativeBias, relativeBuckets } from "./relative-buckets";
import { BERT_MODULES, ENCODER_TASKS, encoderHead, textEncoder } from "./text-encoder";

const SCHEMA = v.object({
  vocab_size: v.optional(count, 30527),
  hidden_size: count,
  num_hidden_layers: layerCount,
  num_attention_heads: count,
  intermediate_size: count,
  max_position_embeddings: v.optional(count, 512),
  layer_norm_eps: v.optional(v.number(), 1e-12),
  hidden_act: v.optional(v.string(), "gelu"),
  hidden_dropout_prob: v.optional(probability, 0.1),
  attention_probs_dropout_prob: v.optional(probability, 0.1),
  /** Rows of the table; distances fill 32 of them whatever it says, as in transformers. */
  relative_attention_num_buckets: v.optional(v.pipe(count, v.minValue(32)), 32),
  pad_token_id: v.nullish(v.pipe(v.number(), v.integer(), v.minValue(0)), 1),
});

const MODULES: LayerModules = {
  ...BERT_MODULES,
  query: "attention.attn.q",
  key: "attention.attn.k",
  value: "attention.attn.v",
  attentionOutput: "attention.attn.o",
  attentionNorm: "attention.LayerNorm",
};

const BUCKETS = { relative_attention_num_buckets: 32, relative_attention_max_distance: 128 };
const TABLE = "mpnet.encoder.relative_attention_bias.weight";
const BUCKETS_INPUT = "relative_buckets";

/** MPNet (Song et al. 2020): BERT with T5's relative positions, of which all layers share the table, beside RoBERTa's own. */
export function mpnet(config: Readonly<Record<string, unknown>>): Model {
  const c = parseConfig(SCHEMA, config);
  const task = taskOf(config, "mpnet", ENCODER_TASKS, "sequence_classification");
  const dropout = c.hidden_dropout_prob;
  return textEncoder({
    family: "mpnet",
    prefix: "mpnet",
    config,
    head: encoderHead(config, {
      task,
      hidden: c.hidden_size,
      tokenDropout: dropout,
      classifier: () => denseClassifier(config, { task, hidden: c.hidden_size, dropout }),
    }),
    otherHeads: ["lm_head"],
    layers: {
      count: c.num_hidden_layers,
      path: (index) => `mpnet.encoder.layer.${index}`,
      modules: MODULES,
      norms: "after",
      hidden: c.hidden_size,
      heads: c.num_attention_heads,
      neurons: c.intermediate_size,
      eps: c.layer_norm_eps,
      approximation: activationOf(c.hidden_act, GELU_ACTIVATIONS),
      dropout: { weights: c.attention_probs_dropout_prob, attention: dropout, feedForward: dropout },
      relative: (forward) => relativeBias(forward, { table: TABLE, buckets: BUCKETS_INPUT, tokens: forward.length }),
      hasHeadTable: true,
    },
    vocabulary: c.vocab_size,
    padId: c.pad_token_id,
    positions: { rows: c.max_position_embeddings, kind: "padded" },
    tokenTypes: 0,
    dropout,
    defaultTargets: ["q", "v"],
    parameters: [{ name: TABLE, shape: [c.relative_attention_num_buckets, c.num_attention_heads], layer: undefined }],
    constants: (positions) => ({ [BUCKETS_INPUT]: relativeBuckets(positions.length, true, BUCKETS) }),
  });
}
