import * as v from "valibot";
import { add } from "../ops/add";
import { addBroadcast } from "../ops/add_broadcast";
import { embedding } from "../ops/embedding";
import { gelu } from "../ops/gelu";
import type { Value } from "../tape/tape";
import { activationOf, count, GELU_ACTIVATIONS, layerCount, parseConfig, probability } from "./config";
import type { Forward } from "./forward";
import { answerSpan, denseClassifier, pooledClassifier, taskOf } from "./heads";
import type { Head } from "./heads";
import { layersOf, normParameters, projectionParameters } from "./model";
import type { Model, ParameterSpec, Projection, ProjectionRole, Task } from "./model";
import { layerStructures } from "./structure";

const SCHEMA = v.object({
  vocab_size: count,
  hidden_size: count,
  num_hidden_layers: layerCount,
  num_attention_heads: count,
  intermediate_size: count,
  max_position_embeddings: count,
  type_vocab_size: v.optional(count, 2),
  layer_norm_eps: v.optional(v.number(), 1e-12),
  hidden_act: v.optional(v.string(), "gelu"),
  hidden_dropout_prob: v.optional(probability, 0.1),
  attention_probs_dropout_prob: v.optional(probability, 0.1),
  classifier_dropout: v.nullish(probability),
  pad_token_id: v.nullish(v.pipe(v.number(), v.integer(), v.minValue(0))),
});

/** How BERT and RoBERTa differ. */
interface Encoder {
  readonly family: string;
  /** Padding id if the configuration has none. */
  readonly padId: number;
  /** How positions count: 0, 1, 2, ..., or as `Forward.paddedPositions`. */
  readonly positions: "absolute" | "padded";
  classifier(config: Readonly<Record<string, unknown>>, task: Task, c: Config): Head;
}

/** BERT (Devlin et al. 2019), post-norm; sequence classification, regression and question answering. */
export function bert(config: Readonly<Record<string, unknown>>): Model {
  return encoder(config, {
    family: "bert",
    padId: 0,
    positions: "absolute",
    classifier: (configuration, task, c) =>
      pooledClassifier(configuration, { task, hidden: c.hidden_size, pooler: "bert.pooler", dropout: headDropout(c) }),
  });
}

/** RoBERTa (Liu et al. 2019): BERT with other positions and another head. */
export function roberta(config: Readonly<Record<string, unknown>>): Model {
  return encoder(config, {
    family: "roberta",
    padId: 1,
    positions: "padded",
    classifier: (configuration, task, c) =>
      denseClassifier(configuration, { task, hidden: c.hidden_size, dropout: headDropout(c) }),
  });
}

const TASKS: readonly Task[] = ["sequence_classification", "question_answering"];
const headDropout = (c: Config): number => c.classifier_dropout ?? c.hidden_dropout_prob;

function encoder(config: Readonly<Record<string, unknown>>, kind: Encoder): Model {
  const c = parseConfig(SCHEMA, config);
  const approximation = activationOf(c.hidden_act, GELU_ACTIVATIONS);
  const { family } = kind;
  const task = taskOf(config, family, TASKS, "sequence_classification");
  const head = task === "question_answering" ? answerSpan(c.hidden_size) : kind.classifier(config, task, c);
  const projections = [...layerProjections(family, c), ...head.projections];
  const padId = c.pad_token_id ?? kind.padId;
  return {
    family,
    config,
    projections,
    task,
    classes: head.classes,
    heads: head.heads,
    parameters: encoderParameters(family, c, projections),
    layers: c.num_hidden_layers,
    hiddenSize: c.hidden_size,
    vocabularySize: c.vocab_size,
    // RoBERTa's positions begin after that of padding.
    maxLength: c.max_position_embeddings - (kind.positions === "padded" ? padId + 1 : 0),
    padId,
    wordEmbeddings: `${family}.embeddings.word_embeddings.weight`,
    defaultTargets: ["query", "value"],
    aliases: (name) => encoderAliases(family, name),
    ignores: (name) => /^(?:cls|lm_head|classifier|qa_outputs)\.|position_ids$|(?:^|\.)pooler\./.test(name),
    structures: (index) => layerStructures(index, projections, structureSizes(c)),
    embed: (forward) => embed(forward, c, kind),
    activation: approximation === "tanh" ? "gelu_tanh" : "gelu",
    hiddenDropout: c.hidden_dropout_prob,
    ...layersOf({
      attention: (forward, index, x) => attentionPart(forward, { family, c, approximation }, index, x),
      feedForward: (forward, index, x) => feedForwardPart(forward, { family, c, approximation }, index, x),
    }),
    head: (forward, x) => head.apply(forward, x),
  };
}

type Config = v.InferOutput<typeof SCHEMA>;

const structureSizes = ({ num_attention_heads: heads, hidden_size: d, intermediate_size: neurons }: Config) => {
  return { heads, headSize: d / heads, neurons };
};

function embed(forward: Forward, c: Config, { family, positions }: Encoder): Value {
  const { recorder } = forward;
  const table = (name: string): Value => forward.parameter(`${family}.embeddings.${name}_embeddings.weight`);
  return recorder.labelled(`${family}.embeddings`, () => {
    const words = forward.tokenEmbeddings(table("word"));
    const types = recorder.apply(embedding, { table: table("token_type"), ids: forward.tokenTypeIds }, {});
    const wordsAndTypes = recorder.apply(add, { a: words, b: types }, {});
    const isAbsolute = positions === "absolute";
    const ids = isAbsolute ? forward.positions : forward.paddedPositions;
    const positionEmbeddings = recorder.apply(embedding, { table: table("position"), ids }, {});
    const sum = recorder.apply(isAbsolute ? addBroadcast : add, { a: wordsAndTypes, b: positionEmbeddings }, {});
    return forward.dropout(
      forward.layerNorm(`${family}.embeddings.LayerNorm`, sum, c.layer_norm_eps),
      c.hidden_dropout_prob,
    );
  });
}

interface LayerKind {
  readonly family: string;
  readonly c: Config;
  readonly approximation: "none" | "tanh";
}

function attentionPart(forward: Forward, { family, c }: LayerKind, index: number, x: Value): Value {
  const path = `${family}.encoder.layer.${index}`;
  const qkv = {
    q: forward.linear(`${path}.attention.self.query`, x),
    k: forward.linear(`${path}.attention.self.key`, x),
    v: forward.linear(`${path}.attention.self.value`, x),
  };
  const mixed = forward.attention(`${path}.attention.self`, qkv, {
    headSize: c.hidden_size / c.num_attention_heads,
    causal: false,
    dropout: c.attention_probs_dropout_prob,
  });
  const attended = forward.dropout(forward.linear(`${path}.attention.output.dense`, mixed), c.hidden_dropout_prob);
  return forward.block({
    name: `${path}.attention`,
    layer: index,
    x: attended,
    input: x,
    residual: x,
    norm: (sum) => forward.layerNorm(`${path}.attention.output.LayerNorm`, sum, c.layer_norm_eps),
  });
}

function feedForwardPart(
  forward: Forward,
  { family, c, approximation }: LayerKind,
  index: number,
  between: Value,
): Value {
  const path = `${family}.encoder.layer.${index}`;
  const narrow = forward.feedForward(index, () => {
    const wide = forward.linear(`${path}.intermediate.dense`, between);
    const active = forward.recorder.labelled(`${path}.intermediate`, () =>
      forward.recorder.apply(gelu, { x: wide }, { approximation }),
    );
    return forward.dropout(forward.linear(`${path}.output.dense`, active), c.hidden_dropout_prob);
  });
  return forward.block({
    name: `${path}.output`,
    layer: index,
    x: narrow,
    input: between,
    residual: between,
    norm: (sum) => forward.layerNorm(`${path}.output.LayerNorm`, sum, c.layer_norm_eps),
  });
}

function layerProjections(family: string, c: Config): Projection[] {
  const { hidden_size: d, intermediate_size: wide } = c;
  return Array.from({ length: c.num_hidden_layers }, (_, layer) => {
    const dense = (role: ProjectionRole, module: string, from: number, to: number): Projection => {
      const name = `${family}.encoder.layer.${layer}.${module}`;
      return { name, in: from, out: to, layout: "out_in", bias: true, layer, role };
    };
    return [
      dense("query", "attention.self.query", d, d),
      dense("key", "attention.self.key", d, d),
      dense("value", "attention.self.value", d, d),
      dense("attention_output", "attention.output.dense", d, d),
      dense("feed_forward_in", "intermediate.dense", d, wide),
      dense("feed_forward_out", "output.dense", wide, d),
    ];
  }).flat();
}

function encoderParameters(family: string, c: Config, projections: readonly Projection[]): ParameterSpec[] {
  const { hidden_size: d } = c;
  const table = (name: string, rows: number): ParameterSpec => {
    return { name: `${family}.embeddings.${name}_embeddings.weight`, shape: [rows, d], layer: "below" };
  };
  const layerNorms = (layer: number): ParameterSpec[] => [
    ...normParameters(`${family}.encoder.layer.${layer}.attention.output.LayerNorm`, d, layer),
    ...normParameters(`${family}.encoder.layer.${layer}.output.LayerNorm`, d, layer),
  ];
  return [
    table("word", c.vocab_size),
    table("position", c.max_position_embeddings),
    table("token_type", c.type_vocab_size),
    ...normParameters(`${family}.embeddings.LayerNorm`, d, "below"),
    ...projections.flatMap((projection) => projectionParameters(projection)),
    ...Array.from({ length: c.num_hidden_layers }, (_, layer) => layerNorms(layer)).flat(),
  ];
}

/** Names of a tensor in published files: old ones say gamma and beta in norms, and bare models have no prefix. */
function encoderAliases(family: string, name: string): string[] {
  const old = name.replace(/LayerNorm\.weight$/, "LayerNorm.gamma").replace(/LayerNorm\.bias$/, "LayerNorm.beta");
  const bare = (full: string): string => (full.startsWith(`${family}.`) ? full.slice(family.length + 1) : full);
  return [...new Set([name, old, bare(name), bare(old)])];
}
