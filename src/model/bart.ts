import * as v from "valibot";
import { scale } from "../ops/scale";
import type { Value } from "../tape/tape";
import { activate, ACTIVATIONS } from "./activation";
import { activationOf, count, layerCount, parseConfig, probability, withOwnNames } from "./config";
import type { StoredNames } from "./config";
import type { AttentionShape, BlockSite, Forward } from "./forward";
import { languageModel, taskOf } from "./heads";
import { normParameters, projectionParameters } from "./model";
import type { Activation, Model, ParameterSpec, Projection, ProjectionRole } from "./model";
import { startTokenOf } from "./start-token";
import { layerStructures } from "./structure";

const ID = v.pipe(v.number(), v.integer(), v.minValue(0));
const SCHEMA = v.object({
  vocab_size: count,
  d_model: count,
  encoder_layers: layerCount,
  decoder_layers: layerCount,
  encoder_attention_heads: count,
  decoder_attention_heads: count,
  encoder_ffn_dim: count,
  decoder_ffn_dim: count,
  max_position_embeddings: v.optional(count, 1024),
  activation_function: v.optional(v.string(), "gelu"),
  dropout: v.optional(probability, 0.1),
  attention_dropout: v.optional(probability, 0),
  activation_dropout: v.optional(probability, 0),
  scale_embedding: v.optional(v.boolean(), false),
  pad_token_id: v.nullish(ID),
  decoder_start_token_id: v.nullish(ID),
  tie_word_embeddings: v.optional(v.boolean(), true),
  encoder_layerdrop: v.optional(v.literal(0), 0),
  decoder_layerdrop: v.optional(v.literal(0), 0),
  is_decoder: v.optional(v.literal(false), false),
  is_encoder_decoder: v.optional(v.literal(true), true),
  tie_encoder_decoder: v.optional(v.literal(false), false),
  // Keys of the first published files, which say how BART differs from its relatives.
  normalize_before: v.optional(v.literal(false), false),
  normalize_embedding: v.optional(v.literal(true), true),
  add_final_layer_norm: v.optional(v.literal(false), false),
  static_position_embeddings: v.optional(v.literal(false), false),
  extra_pos_embeddings: v.optional(v.literal(2), 2),
});

type Config = v.InferOutput<typeof SCHEMA>;

/** Not num_hidden_layers: files of DistilBART have the decoder's number under it. */
const OWN_NAMES = { hidden_size: "d_model", num_attention_heads: "encoder_attention_heads" };

/** Rows of a table of positions before that of a text's first token. */
const FIRST_POSITION = 2;
/** Epsilon of all norms. */
const EPSILON = 1e-5;
const SHARED = "model.shared.weight";
const LOGITS_BIAS = "final_logits_bias";

type StackName = "encoder" | "decoder";

/** A layer of the model, and its place in its stack. */
interface Place {
  readonly stack: StackName;
  readonly path: string;
  readonly index: number;
  readonly headSize: number;
  readonly neurons: number;
}

/**
 * BART (Lewis et al. 2020): an encoder-decoder, post-norm, with learned positions.
 * @param stored tells whether the checkpoint has an output projection of its own. Default: by the configuration.
 */
export function bart(config: Readonly<Record<string, unknown>>, stored?: StoredNames): Model {
  const c = parseConfig(SCHEMA, withOwnNames(config, OWN_NAMES));
  const activation = activationOf(c.activation_function, ACTIVATIONS);
  taskOf(config, "bart", ["seq2seq"], "seq2seq");
  const isTied = stored ? !stored.has("lm_head.weight") : c.tie_word_embeddings;
  const tiedTo = isTied ? SHARED : undefined;
  const head = languageModel(c.vocab_size, { hidden: c.d_model, tiedTo, bias: LOGITS_BIAS });
  const layers = c.encoder_layers + c.decoder_layers;
  const placeOf = (index: number): Place => {
    const stack = index < c.encoder_layers ? "encoder" : "decoder";
    const number = stack === "encoder" ? index : index - c.encoder_layers;
    const headSize = c.d_model / c[`${stack}_attention_heads`];
    return { stack, path: `model.${stack}.layers.${number}`, index, headSize, neurons: c[`${stack}_ffn_dim`] };
  };
  const places = Array.from({ length: layers }, (_, index) => placeOf(index));
  const projections = [...places.flatMap((place) => layerProjections(c, place)), ...head.projections];
  return {
    family: "bart",
    config,
    projections,
    task: "seq2seq",
    classes: c.vocab_size,
    heads: head.heads,
    parameters: bartParameters(c, places, projections, isTied),
    layers,
    hiddenSize: c.d_model,
    vocabularySize: c.vocab_size,
    maxLength: c.max_position_embeddings,
    firstPosition: FIRST_POSITION,
    padId: c.pad_token_id ?? 1,
    wordEmbeddings: SHARED,
    embeddingScale: scaleOf(c),
    defaultTargets: ["q_proj", "v_proj"],
    // Files of the bare model have no prefix.
    aliases: (name) => [name, name.replace(/^model\./, ""), ...(name === SHARED ? TIED_TABLES : [])],
    ignores: (name) => TIED_TABLES.includes(name) || /^(?:lm_head|classification_head|qa_outputs)\./.test(name),
    structures: (index) => {
      const { headSize, neurons } = placeOf(index);
      const sizes = { heads: c.d_model / headSize, headSize, neurons };
      return layerStructures(index, projections, sizes).filter(({ kind }) => kind === "neurons");
    },
    activation,
    hiddenDropout: c.dropout,
    encoderDecoder: {
      encoderLayers: c.encoder_layers,
      startId: startTokenOf(c, 2),
      encoded: (_, x) => x,
      embed: (forward) => embedded(forward, c, "decoder"),
    },
    embed: (forward) => embedded(forward, c, "encoder"),
    layer(forward, index, x) {
      const place = placeOf(index);
      const attended = selfAttention(forward, c, place, x);
      const between = place.stack === "decoder" ? crossAttention(forward, c, place, attended) : attended;
      return feedForwardPart(forward, { c, activation }, place, between);
    },
    head: (forward, x) => head.apply(forward, x),
    output: head.output,
    tiedOutput: head.tiedOutput,
  };
}

/** Names under which files may repeat the table that both stacks share. */
const TIED_TABLES: readonly string[] = ["encoder", "decoder"].flatMap((stack) =>
  ["model.", ""].map((prefix) => `${prefix}${stack}.embed_tokens.weight`),
);

const scaleOf = (c: Config): number => (c.scale_embedding ? Math.sqrt(c.d_model) : 1);

function embedded(forward: Forward, c: Config, stack: StackName): Value {
  const { recorder } = forward;
  const path = `model.${stack}`;
  return recorder.labelled(path, () => {
    const table = forward.parameter(SHARED);
    const factor = scaleOf(c);
    const scaled = (x: Value): Value => (factor === 1 ? x : recorder.apply(scale, { x }, { factor }));
    // Words are scaled, and virtual tokens are not.
    const words =
      stack === "encoder" ? forward.tokenEmbeddings(table, factor) : scaled(forward.decoderEmbeddings(table));
    const sum = forward.withPositions(words, forward.parameter(`${path}.embed_positions.weight`), stack);
    return forward.dropout(forward.layerNorm(`${path}.layernorm_embedding`, sum, EPSILON), c.dropout);
  });
}

/** Ends a sub-layer: dropout, the residual, and the norm of the sum. */
function ended(
  forward: Forward,
  c: Config,
  norm: string,
  { x, ...rest }: Pick<BlockSite, "name" | "layer" | "x" | "input" | "residual">,
): Value {
  return forward.block({
    ...rest,
    x: forward.dropout(x, c.dropout),
    norm: (sum) => forward.layerNorm(norm, sum, EPSILON),
  });
}

function selfAttention(forward: Forward, c: Config, { stack, path, index, headSize }: Place, x: Value): Value {
  const name = `${path}.self_attn`;
  const project = (module: string): Value => forward.linear(`${name}.${module}`, x);
  const shape: AttentionShape = { headSize, causal: stack === "decoder", dropout: c.attention_dropout };
  const mixed = forward.attention(name, { q: project("q_proj"), k: project("k_proj"), v: project("v_proj") }, shape);
  const attended = forward.linear(`${name}.out_proj`, mixed);
  return ended(forward, c, `${name}_layer_norm`, { name, layer: index, x: attended, input: x, residual: x });
}

function crossAttention(forward: Forward, c: Config, { path, index, headSize }: Place, x: Value): Value {
  const name = `${path}.encoder_attn`;
  const project = (module: string, from: Value): Value => forward.linear(`${name}.${module}`, from);
  const mixed = forward.crossAttention(
    name,
    project("q_proj", x),
    (encoded) => ({ k: project("k_proj", encoded), v: project("v_proj", encoded) }),
    { headSize, dropout: c.attention_dropout },
  );
  const attended = project("out_proj", mixed);
  return ended(forward, c, `${name}_layer_norm`, { name, layer: index, x: attended, input: x, residual: x });
}

function feedForwardPart(
  forward: Forward,
  { c, activation }: { readonly c: Config; readonly activation: Activation },
  { path, index }: Place,
  x: Value,
): Value {
  const { recorder } = forward;
  const narrow = forward.feedForward(index, () => {
    const wide = forward.linear(`${path}.fc1`, x);
    const active = recorder.labelled(`${path}.fc1`, () => activate(recorder, activation, wide));
    return forward.linear(`${path}.fc2`, forward.dropout(active, c.activation_dropout));
  });
  const site = { name: `${path}.fc2`, layer: index, x: narrow, input: x, residual: x };
  return ended(forward, c, `${path}.final_layer_norm`, site);
}

function layerProjections(c: Config, { stack, path, index, neurons }: Place): Projection[] {
  const dense = (role: ProjectionRole, module: string, from = c.d_model, to = c.d_model): Projection => {
    return { name: `${path}.${module}`, in: from, out: to, layout: "out_in", bias: true, layer: index, role };
  };
  return [
    ...(stack === "encoder" ? ["self_attn"] : ["self_attn", "encoder_attn"]).flatMap((attention) => [
      dense("key", `${attention}.k_proj`),
      dense("value", `${attention}.v_proj`),
      dense("query", `${attention}.q_proj`),
      dense("attention_output", `${attention}.out_proj`),
    ]),
    dense("feed_forward_in", "fc1", c.d_model, neurons),
    dense("feed_forward_out", "fc2", neurons, c.d_model),
  ];
}

function bartParameters(
  c: Config,
  places: readonly Place[],
  projections: readonly Projection[],
  isTied: boolean,
): ParameterSpec[] {
  const embeddings = (stack: StackName, layer: "below" | number): ParameterSpec[] => {
    const shape = [c.max_position_embeddings + FIRST_POSITION, c.d_model];
    return [
      { name: `model.${stack}.embed_positions.weight`, shape, layer },
      ...normParameters(`model.${stack}.layernorm_embedding`, c.d_model, layer),
    ];
  };
  const norms = ({ stack, path, index }: Place): ParameterSpec[] =>
    ["self_attn_layer_norm", ...(stack === "decoder" ? ["encoder_attn_layer_norm"] : []), "final_layer_norm"].flatMap(
      (norm) => normParameters(`${path}.${norm}`, c.d_model, index),
    );
  return [
    { name: SHARED, shape: [c.vocab_size, c.d_model], layer: "below" },
    ...embeddings("encoder", "below"),
    // The decoder's first layer records its embeddings.
    ...embeddings("decoder", c.encoder_layers),
    ...projections.flatMap((projection) => projectionParameters(projection)),
    ...places.flatMap(norms),
    ...(isTied ? [] : [{ name: "lm_head.weight", shape: [c.vocab_size, c.d_model], layer: undefined }]),
    { name: LOGITS_BIAS, shape: [1, c.vocab_size], layer: undefined, isBuffer: true },
  ];
}
