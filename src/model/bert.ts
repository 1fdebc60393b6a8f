import * as v from "valibot";
import { activationOf, count, GELU_ACTIVATIONS, layerCount, only, parseConfig, probability } from "./config";
import { denseClassifier, firstTokenClassifier, taskOf } from "./heads";
import type { Head } from "./heads";
import type { Model, Task } from "./model";
import { BERT_MODULES, ENCODER_TASKS, encoderHead, textEncoder } from "./text-encoder";

const SCHEMA = v.object({
  vocab_size: count,
  hidden_size: count,
  num_hidden_layers: layerCount,
  num_attention_heads: count,
  intermediate_size: count,
  max_position_embeddings: count,
  /** ELECTRA's; others ignore it. */
  embedding_size: v.nullish(count),
  type_vocab_size: v.optional(count, 2),
  layer_norm_eps: v.optional(v.number(), 1e-12),
  hidden_act: v.optional(v.string(), "gelu"),
  hidden_dropout_prob: v.optional(probability, 0.1),
  attention_probs_dropout_prob: v.optional(probability, 0.1),
  classifier_dropout: v.nullish(probability),
  pad_token_id: v.nullish(v.pipe(v.number(), v.integer(), v.minValue(0))),
  is_decoder: only(false),
  add_cross_attention: only(false),
  position_embedding_type: only("absolute"),
});

type Config = v.InferOutput<typeof SCHEMA>;

/** How BERT and those that differ from it in a few places differ. */
interface Kind {
  readonly family: string;
  readonly prefix: string;
  /** Padding id if the configuration has none. */
  readonly padId: number;
  readonly positions: "absolute" | "padded";
  /** Beginnings of the names of its pre-training heads. */
  readonly otherHeads: readonly string[];
  /** Module that projects embeddings of another width (`embedding_size`). */
  readonly projection?: string;
  classifier(config: Readonly<Record<string, unknown>>, task: Task, c: Config): Head;
}

/** BERT (Devlin et al. 2019), post-norm; sequence and token classification, regression and question answering. */
export const bert = (config: Readonly<Record<string, unknown>>): Model =>
  encoder(config, {
    family: "bert",
    prefix: "bert",
    padId: 0,
    positions: "absolute",
    otherHeads: ["cls"],
    classifier: (configuration, task, c) =>
      firstTokenClassifier(configuration, { ...headOf(task, c), dense: "bert.pooler.dense", activation: "tanh" }),
  });

/** RoBERTa (Liu et al. 2019): BERT with other positions and another head. */
const ROBERTA = {
  prefix: "roberta",
  padId: 1,
  positions: "padded",
  otherHeads: ["lm_head"],
  classifier: (config, task, c) => denseClassifier(config, headOf(task, c)),
} as const satisfies Omit<Kind, "family">;

/** RoBERTa (Liu et al. 2019): BERT with other positions and another head. */
export const roberta = (config: Readonly<Record<string, unknown>>): Model =>
  encoder(config, { ...ROBERTA, family: "roberta" });

/** XLM-RoBERTa (Conneau et al. 2020): RoBERTa, under RoBERTa's names, with a vocabulary for a hundred languages. */
export const xlmRoberta = (config: Readonly<Record<string, unknown>>): Model =>
  encoder(config, { ...ROBERTA, family: "xlm-roberta" });

/** ELECTRA's discriminator (Clark et al. 2020): BERT whose embeddings may be narrower, with RoBERTa's head but for GELU. */
export const electra = (config: Readonly<Record<string, unknown>>): Model =>
  encoder(config, {
    family: "electra",
    prefix: "electra",
    padId: 0,
    positions: "absolute",
    otherHeads: ["discriminator_predictions", "generator_predictions", "generator_lm_head"],
    projection: "embeddings_project",
    classifier: (configuration, task, c) => denseClassifier(configuration, { ...headOf(task, c), activation: "gelu" }),
  });

const headOf = (task: Task, c: Config): { task: Task; hidden: number; dropout: number } => {
  return { task, hidden: c.hidden_size, dropout: c.classifier_dropout ?? c.hidden_dropout_prob };
};

function encoder(config: Readonly<Record<string, unknown>>, kind: Kind): Model {
  const c = parseConfig(SCHEMA, config);
  const { family, prefix, projection } = kind;
  const task = taskOf(config, family, ENCODER_TASKS, "sequence_classification");
  // ELECTRA's configurations leave out a width of 128, which is its default.
  const width = projection === undefined ? c.hidden_size : (c.embedding_size ?? 128);
  const model = textEncoder({
    ...kind,
    config,
    head: encoderHead(config, {
      task,
      hidden: c.hidden_size,
      tokenDropout: headOf(task, c).dropout,
      classifier: () => kind.classifier(config, task, c),
    }),
    layers: {
      count: c.num_hidden_layers,
      path: (index) => `${prefix}.encoder.layer.${index}`,
      modules: BERT_MODULES,
      norms: "after",
      hidden: c.hidden_size,
      heads: c.num_attention_heads,
      neurons: c.intermediate_size,
      eps: c.layer_norm_eps,
      approximation: activationOf(c.hidden_act, GELU_ACTIVATIONS),
      dropout: {
        weights: c.attention_probs_dropout_prob,
        attention: c.hidden_dropout_prob,
        feedForward: c.hidden_dropout_prob,
      },
    },
    vocabulary: c.vocab_size,
    padId: c.pad_token_id ?? kind.padId,
    positions: { rows: c.max_position_embeddings, kind: kind.positions },
    tokenTypes: c.type_vocab_size,
    dropout: c.hidden_dropout_prob,
    projected: projection !== undefined && width !== c.hidden_size ? { module: projection, width } : undefined,
    defaultTargets: ["query", "value"],
  });
  return { ...model, prefixHeads: c.num_attention_heads };
}
