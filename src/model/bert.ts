import * as v from "valibot";
import { add } from "../ops/add";
import { addBroadcast } from "../ops/add_broadcast";
import { embedding } from "../ops/embedding";
import { gelu } from "../ops/gelu";
import { tanh } from "../ops/tanh";
import type { Value } from "../tape/tape";
import { checkActivation, count, labelCount, parseConfig, probability } from "./config";
import type { Forward } from "./forward";
import { layerOf, projectionParameters } from "./model";
import type { Model, ParameterSpec, Projection } from "./model";

const SCHEMA = v.object({
  vocab_size: count,
  hidden_size: count,
  num_hidden_layers: count,
  num_attention_heads: count,
  intermediate_size: count,
  max_position_embeddings: count,
  type_vocab_size: v.optional(count, 2),
  layer_norm_eps: v.optional(v.number(), 1e-12),
  hidden_act: v.optional(v.string(), "gelu"),
  hidden_dropout_prob: v.optional(probability, 0.1),
  attention_probs_dropout_prob: v.optional(probability, 0.1),
  classifier_dropout: v.nullish(probability),
  pad_token_id: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0)), 0),
});

const APPROXIMATIONS = { gelu: "none", gelu_new: "tanh", gelu_pytorch_tanh: "tanh" } as const;

/** BERT (Devlin et al. 2019), post-norm, with the sequence classification head of Hugging Face. */
export function bert(config: Readonly<Record<string, unknown>>): Model {
  const c = parseConfig(SCHEMA, config);
  checkActivation(c.hidden_act, Object.keys(APPROXIMATIONS));
  const approximation = APPROXIMATIONS[c.hidden_act as keyof typeof APPROXIMATIONS];
  const classes = labelCount(config);
  const projections = bertProjections(c, classes);
  return {
    family: "bert",
    task: classes === 1 || config["problem_type"] === "regression" ? "regression" : "sequence_classification",
    config,
    parameters: bertParameters(c, projections),
    projections,
    layers: c.num_hidden_layers,
    hiddenSize: c.hidden_size,
    vocabularySize: c.vocab_size,
    maxLength: c.max_position_embeddings,
    classes,
    padId: c.pad_token_id,
    heads: ["classifier"],
    defaultTargets: ["query", "value"],
    aliases: (name) => bertAliases(name),
    ignores: (name) => /^cls\.|position_ids$/.test(name),
    embed: (forward) => embed(forward, c),
    layer: (forward, index, x) => layer(forward, c, approximation, index, x),
    head(forward, x) {
      const first = forward.recorder.labelled("bert.pooler", () =>
        forward.recorder.apply(embedding, { table: x, ids: forward.firstTokens }, {}),
      );
      const pooled = forward.recorder.labelled("bert.pooler", () =>
        forward.recorder.apply(tanh, { x: forward.linear("bert.pooler.dense", first) }, {}),
      );
      return forward.linear("classifier", forward.dropout(pooled, c.classifier_dropout ?? c.hidden_dropout_prob));
    },
  };
}

type Config = v.InferOutput<typeof SCHEMA>;

function embed(forward: Forward, c: Config): Value {
  const { recorder } = forward;
  const table = (name: string): Value => forward.parameter(`bert.embeddings.${name}_embeddings.weight`);
  return recorder.labelled("bert.embeddings", () => {
    const words = recorder.apply(embedding, { table: table("word"), ids: forward.inputIds }, {});
    const kinds = recorder.apply(embedding, { table: table("token_type"), ids: forward.tokenTypeIds }, {});
    const places = recorder.apply(embedding, { table: table("position"), ids: forward.positions }, {});
    const both = recorder.apply(add, { a: words, b: kinds }, {});
    const sum = recorder.apply(addBroadcast, { a: both, b: places }, {});
    return forward.dropout(
      forward.layerNorm("bert.embeddings.LayerNorm", sum, c.layer_norm_eps),
      c.hidden_dropout_prob,
    );
  });
}

function layer(forward: Forward, c: Config, approximation: "none" | "tanh", index: number, x: Value): Value {
  const at = `bert.encoder.layer.${index}`;
  const qkv = {
    q: forward.linear(`${at}.attention.self.query`, x),
    k: forward.linear(`${at}.attention.self.key`, x),
    v: forward.linear(`${at}.attention.self.value`, x),
  };
  const mixed = forward.attention(`${at}.attention.self`, qkv, {
    heads: c.num_attention_heads,
    headSize: c.hidden_size / c.num_attention_heads,
    causal: false,
    dropout: c.attention_probs_dropout_prob,
  });
  const attended = forward.dropout(forward.linear(`${at}.attention.output.dense`, mixed), c.hidden_dropout_prob);
  const between = forward.layerNorm(
    `${at}.attention.output.LayerNorm`,
    forward.add(`${at}.attention`, forward.block(`${at}.attention`, attended), x),
    c.layer_norm_eps,
  );
  const wide = forward.linear(`${at}.intermediate.dense`, between);
  const active = forward.recorder.labelled(`${at}.intermediate`, () =>
    forward.recorder.apply(gelu, { x: wide }, { approximation }),
  );
  const narrow = forward.dropout(forward.linear(`${at}.output.dense`, active), c.hidden_dropout_prob);
  const sum = forward.add(`${at}.output`, forward.block(`${at}.output`, narrow), between);
  return forward.layerNorm(`${at}.output.LayerNorm`, sum, c.layer_norm_eps);
}

function bertProjections(c: Config, classes: number): Projection[] {
  const dense = (name: string, from: number, to: number): Projection => {
    return { name, in: from, out: to, layout: "out_in", bias: true, layer: layerOf(`${name}.`) };
  };
  const { hidden_size: d, intermediate_size: wide } = c;
  const layers = Array.from({ length: c.num_hidden_layers }, (_, i) => `bert.encoder.layer.${i}`);
  return [
    ...layers.flatMap((at) => [
      dense(`${at}.attention.self.query`, d, d),
      dense(`${at}.attention.self.key`, d, d),
      dense(`${at}.attention.self.value`, d, d),
      dense(`${at}.attention.output.dense`, d, d),
      dense(`${at}.intermediate.dense`, d, wide),
      dense(`${at}.output.dense`, wide, d),
    ]),
    dense("bert.pooler.dense", d, d),
    dense("classifier", d, classes),
  ];
}

function bertParameters(c: Config, projections: readonly Projection[]): ParameterSpec[] {
  const { hidden_size: d } = c;
  const norm = (name: string): ParameterSpec[] => [
    { name: `${name}.weight`, shape: [d] },
    { name: `${name}.bias`, shape: [d] },
  ];
  const layers = Array.from({ length: c.num_hidden_layers }, (_, i) => `bert.encoder.layer.${i}`);
  return [
    { name: "bert.embeddings.word_embeddings.weight", shape: [c.vocab_size, d] },
    { name: "bert.embeddings.position_embeddings.weight", shape: [c.max_position_embeddings, d] },
    { name: "bert.embeddings.token_type_embeddings.weight", shape: [c.type_vocab_size, d] },
    ...norm("bert.embeddings.LayerNorm"),
    ...projections.flatMap((projection) => projectionParameters(projection)),
    ...layers.flatMap((at) => [...norm(`${at}.attention.output.LayerNorm`), ...norm(`${at}.output.LayerNorm`)]),
  ];
}

/** Published BERT files write LayerNorm as gamma and beta, and bare models leave the prefix out. */
function bertAliases(name: string): string[] {
  const old = name.replace(/LayerNorm\.weight$/, "LayerNorm.gamma").replace(/LayerNorm\.bias$/, "LayerNorm.beta");
  return [...new Set([name, old, name.replace(/^bert\./, ""), old.replace(/^bert\./, "")])];
}
