import * as v from "valibot";
import { activationOf, count, GELU_ACTIVATIONS, layerCount, parseConfig, probability, withOwnNames } from "./config";
import type { LayerModules } from "./encoder-layer";
import { firstTokenClassifier, taskOf } from "./heads";
import type { Model } from "./model";
import { ENCODER_TASKS, encoderHead, textEncoder } from "./text-encoder";

const SCHEMA = v.object({
  vocab_size: v.optional(count, 30522),
  dim: v.optional(count, 768),
  n_layers: v.optional(layerCount, 6),
  n_heads: v.optional(count, 12),
  hidden_dim: v.optional(count, 3072),
  max_position_embeddings: v.optional(count, 512),
  activation: v.optional(v.string(), "gelu"),
  dropout: v.optional(probability, 0.1),
  attention_dropout: v.optional(probability, 0.1),
  seq_classif_dropout: v.optional(probability, 0.2),
  qa_dropout: v.optional(probability, 0.1),
  pad_token_id: v.nullish(v.pipe(v.number(), v.integer(), v.minValue(0)), 0),
});

const OWN_NAMES = { hidden_size: "dim", num_attention_heads: "n_heads", num_hidden_layers: "n_layers" };

const MODULES: LayerModules = {
  query: "attention.q_lin",
  key: "attention.k_lin",
  value: "attention.v_lin",
  attentionOutput: "attention.out_lin",
  attentionNorm: "sa_layer_norm",
  feedForwardIn: "ffn.lin1",
  feedForwardOut: "ffn.lin2",
  feedForwardNorm: "output_layer_norm",
  attention: "attention",
  feedForward: "ffn",
};

/** DistilBERT (Sanh et al. 2019): BERT's layers without token types, pooler and the dropout behind attention. */
export function distilbert(config: Readonly<Record<string, unknown>>): Model {
  const c = parseConfig(SCHEMA, withOwnNames(config, OWN_NAMES));
  const task = taskOf(config, "distilbert", ENCODER_TASKS, "sequence_classification");
  return textEncoder({
    family: "distilbert",
    prefix: "distilbert",
    config,
    head: encoderHead(config, {
      task,
      hidden: c.dim,
      tokenDropout: c.dropout,
      beforeAnswer: (forward, x) => forward.dropout(x, c.qa_dropout),
      classifier: () =>
        firstTokenClassifier(config, {
          task,
          hidden: c.dim,
          dense: "pre_classifier",
          activation: "relu",
          dropout: c.seq_classif_dropout,
          heads: ["pre_classifier", "classifier"],
        }),
    }),
    otherHeads: ["pre_classifier", "vocab_transform", "vocab_layer_norm", "vocab_projector"],
    layers: {
      count: c.n_layers,
      path: (index) => `distilbert.transformer.layer.${index}`,
      modules: MODULES,
      norms: "after",
      hidden: c.dim,
      heads: c.n_heads,
      neurons: c.hidden_dim,
      // transformers has this number in its code.
      eps: 1e-12,
      approximation: activationOf(c.activation, GELU_ACTIVATIONS),
      dropout: { weights: c.attention_dropout, attention: 0, feedForward: c.dropout },
    },
    vocabulary: c.vocab_size,
    padId: c.pad_token_id,
    positions: { rows: c.max_position_embeddings, kind: "absolute" },
    tokenTypes: 0,
    dropout: c.dropout,
    defaultTargets: ["q_lin", "v_lin"],
  });
}
