import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { scale } from "../ops/scale";
import type { Value } from "../tape/tape";
import { activate, activateGate, ACTIVATIONS } from "./activation";
import { activationOf, count, layerCount, parseConfig, probability, withOwnNames } from "./config";
import type { StoredNames } from "./config";
import type { Forward, RelativePositions } from "./forward";
import { languageModel, taskOf } from "./heads";
import { projectionParameters } from "./model";
import type { Activation, Model, ParameterSpec, Projection, ProjectionRole, TensorPlace } from "./model";
import { relativeBias, relativeBuckets } from "./relative-buckets";
import { startTokenOf } from "./start-token";
import { layerStructures } from "./structure";

const ID = v.pipe(v.number(), v.integer(), v.minValue(0));
const SCHEMA = v.object({
  vocab_size: count,
  d_model: count,
  d_kv: count,
  d_ff: count,
  num_layers: layerCount,
  num_decoder_layers: v.nullish(layerCount),
  num_heads: count,
  relative_attention_num_buckets: v.optional(v.pipe(count, v.minValue(4)), 32),
  relative_attention_max_distance: v.optional(count, 128),
  dropout_rate: v.optional(probability, 0.1),
  layer_norm_epsilon: v.optional(v.number(), 1e-6),
  feed_forward_proj: v.optional(v.string(), "relu"),
  dense_act_fn: v.nullish(v.string()),
  is_gated_act: v.nullish(v.boolean()),
  pad_token_id: v.nullish(ID),
  decoder_start_token_id: v.nullish(ID),
  tie_word_embeddings: v.optional(v.boolean(), true),
  scale_decoder_outputs: v.nullish(v.boolean()),
  is_decoder: v.optional(v.literal(false), false),
  is_encoder_decoder: v.optional(v.literal(true), true),
  tie_encoder_decoder: v.optional(v.literal(false), false),
});

type Config = v.InferOutput<typeof SCHEMA>;

const OWN_NAMES = {
  hidden_size: "d_model",
  num_attention_heads: "num_heads",
  num_hidden_layers: "num_layers",
  head_dim: "d_kv",
};

type StackName = "encoder" | "decoder";

interface FeedForwardKind {
  readonly activation: Activation;
  /** Whether the activation is a gate, beside a projection without one (Shazeer 2020). */
  readonly isGated: boolean;
}

/** A layer among the model's, and its block among its stack's. */
interface Block {
  readonly stack: StackName;
  readonly block: number;
  readonly layer: number;
}

/**
 * T5 (Raffel et al. 2020), its version 1.1 and FLAN-T5: an encoder-decoder, pre-norm, whose attention adds a learned bias of
 * the relative position to scores that are not scaled.
 * @param stored tells whether the checkpoint has an output projection of its own. Default: by the configuration.
 */
export function t5(config: Readonly<Record<string, unknown>>, stored?: StoredNames): Model {
  const c = parseConfig(SCHEMA, withOwnNames(config, OWN_NAMES));
  const feedForward = feedForwardKind(c);
  taskOf(config, "t5", ["seq2seq"], "seq2seq");
  const [encoderLayers, decoderLayers] = [c.num_layers, c.num_decoder_layers ?? c.num_layers];
  const isScaled = c.scale_decoder_outputs ?? c.tie_word_embeddings;
  // transformers 5 calls every T5 tied; it writes this key, which says whether the published file was.
  const isTied = stored ? !stored.has("lm_head.weight") : isScaled;
  const head = languageModel(c.vocab_size, {
    hidden: c.d_model,
    tiedTo: isTied ? SHARED : undefined,
    norm(forward, x) {
      const last = closed(forward, c, "decoder", x);
      return isScaled ? forward.recorder.apply(scale, { x: last }, { factor: c.d_model ** -0.5 }) : last;
    },
  });
  const blockOf = (layer: number): Block =>
    layer < encoderLayers
      ? { stack: "encoder", block: layer, layer }
      : { stack: "decoder", block: layer - encoderLayers, layer };
  const blocks = Array.from({ length: encoderLayers + decoderLayers }, (_, layer) => blockOf(layer));
  const projections = [...blocks.flatMap((block) => blockProjections(c, feedForward, block)), ...head.projections];
  const padId = c.pad_token_id ?? 0;
  return {
    family: "t5",
    config,
    projections,
    task: "seq2seq",
    classes: c.vocab_size,
    heads: head.heads,
    parameters: t5Parameters(c, blocks, projections),
    layers: blocks.length,
    hiddenSize: c.d_model,
    vocabularySize: c.vocab_size,
    maxLength: Infinity,
    padId,
    wordEmbeddings: SHARED,
    defaultTargets: ["q", "v"],
    aliases: (name) => (name === SHARED ? [name, ...TIED_TABLES] : [name]),
    // Published files have a table of cross-attention, which no version of T5 reads.
    ignores: (name) =>
      TIED_TABLES.includes(name) || name === "lm_head.weight" || /EncDecAttention\.relative_attention_bias/.test(name),
    constants: (_, { length, targetLength = 0 }) => ({
      [bucketsName("encoder")]: relativeBuckets(length, true, c),
      [bucketsName("decoder")]: relativeBuckets(targetLength, false, c),
    }),
    // Heads cannot be cut: those of all layers share one table.
    structures: (layer) =>
      layerStructures(layer, projections, { heads: c.num_heads, headSize: c.d_kv, neurons: c.d_ff }).filter(
        ({ kind }) => kind === "neurons",
      ),
    activation: feedForward.activation,
    hiddenDropout: c.dropout_rate,
    encoderDecoder: {
      encoderLayers,
      startId: startTokenOf(c, padId),
      encoded: (forward, x) => closed(forward, c, "encoder", x),
      embed: (forward) => embedded(forward, c, "decoder"),
    },
    embed: (forward) => embedded(forward, c, "encoder"),
    layer(forward, layer, x) {
      const block = blockOf(layer);
      const attended = selfAttention(forward, c, block, x);
      const between = block.stack === "decoder" ? crossAttention(forward, c, block, attended) : attended;
      return feedForwardPart(forward, { c, feedForward }, block, between);
    },
    head: (forward, x) => head.apply(forward, x),
    output: head.output,
    tiedOutput: head.tiedOutput,
  };
}

const SHARED = "shared.weight";
/** Names under which files may repeat the table that both stacks share. */
const TIED_TABLES: readonly string[] = ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"];

/** @throws ConfigError for an activation that is not supported, and for keys that contradict `feed_forward_proj`. */
function feedForwardKind({
  feed_forward_proj: kind,
  dense_act_fn: name,
  is_gated_act: gated,
}: Config): FeedForwardKind {
  const isGated = kind.startsWith("gated-");
  // "gated-gelu" means the approximation, for the sake of the first published files.
  const activation = kind === "gated-gelu" ? "gelu_tanh" : activationOf(kind.replace(/^gated-/, ""), ACTIVATIONS);
  const [otherName, otherGate] = [
    typeof name === "string" && ACTIVATIONS[name] !== activation,
    typeof gated === "boolean" && gated !== isGated,
  ];
  if (!otherName && !otherGate) return { activation, isGated };
  throw new ConfigError(
    `config.json: ${otherName ? `dense_act_fn is ${name}` : `is_gated_act is ${gated}`}, but feed_forward_proj is ${kind}.`,
    "Correct one of them: the latter decides.",
  );
}

function embedded(forward: Forward, c: Config, stack: StackName): Value {
  const table = forward.parameter(SHARED);
  return forward.recorder.labelled(`${stack}.embed_tokens`, () => {
    const x = stack === "encoder" ? forward.tokenEmbeddings(table) : forward.decoderEmbeddings(table);
    return forward.dropout(x, c.dropout_rate);
  });
}

/** What leaves a stack: its last norm, and dropout. */
const closed = (forward: Forward, c: Config, stack: StackName, x: Value): Value =>
  forward.dropout(forward.rmsNorm(`${stack}.final_layer_norm`, x, c.layer_norm_epsilon), c.dropout_rate);

/** The name of a sub-layer of a block: attention, cross-attention in a decoder, the feed-forward. */
const subLayer = ({ stack, block }: Block, number: number): string => `${stack}.block.${block}.layer.${number}`;

function selfAttention(forward: Forward, c: Config, block: Block, x: Value): Value {
  const path = subLayer(block, 0);
  const input = forward.rmsNorm(`${path}.layer_norm`, x, c.layer_norm_epsilon);
  const project = (name: string): Value => forward.linear(`${path}.SelfAttention.${name}`, input);
  const shape = {
    headSize: c.d_kv,
    causal: block.stack === "decoder",
    dropout: c.dropout_rate,
    scale: 1,
  };
  const qkv = { q: project("q"), k: project("k"), v: project("v"), relative: biasOf(forward, block.stack) };
  return ended(forward, c, block, 0, { x: forward.attention(`${path}.SelfAttention`, qkv, shape), input, residual: x });
}

function crossAttention(forward: Forward, c: Config, block: Block, x: Value): Value {
  const path = subLayer(block, 1);
  const input = forward.rmsNorm(`${path}.layer_norm`, x, c.layer_norm_epsilon);
  const project = (name: string, from: Value): Value => forward.linear(`${path}.EncDecAttention.${name}`, from);
  const mixed = forward.crossAttention(
    `${path}.EncDecAttention`,
    project("q", input),
    (encoded) => ({ k: project("k", encoded), v: project("v", encoded) }),
    { headSize: c.d_kv, dropout: c.dropout_rate, scale: 1 },
  );
  return ended(forward, c, block, 1, { x: mixed, input, residual: x });
}

/** Projects what attention gives out, and adds the residual. */
function ended(
  forward: Forward,
  c: Config,
  block: Block,
  number: 0 | 1,
  { x, ...rest }: { readonly x: Value; readonly input: Value; readonly residual: Value },
): Value {
  const name = subLayer(block, number);
  const attended = forward.linear(`${name}.${number === 0 ? "SelfAttention" : "EncDecAttention"}.o`, x);
  return forward.block({ name, layer: block.layer, x: forward.dropout(attended, c.dropout_rate), ...rest });
}

function feedForwardPart(
  forward: Forward,
  { c, feedForward: { activation, isGated } }: { readonly c: Config; readonly feedForward: FeedForwardKind },
  block: Block,
  x: Value,
): Value {
  const { recorder } = forward;
  const name = subLayer(block, block.stack === "encoder" ? 1 : 2);
  const input = forward.rmsNorm(`${name}.layer_norm`, x, c.layer_norm_epsilon);
  const narrow = forward.feedForward(block.layer, () => {
    const project = (module: string, from: Value): Value => forward.linear(`${name}.DenseReluDense.${module}`, from);
    const gate = project(isGated ? "wi_0" : "wi", input);
    const up = isGated ? project("wi_1", input) : undefined;
    const active = recorder.labelled(name, () =>
      up ? activateGate(recorder, activation, { gate, up }) : activate(recorder, activation, gate),
    );
    return project("wo", forward.dropout(active, c.dropout_rate));
  });
  return forward.block({ name, layer: block.layer, x: forward.dropout(narrow, c.dropout_rate), input, residual: x });
}

/** Bias of every distance, which all layers of a stack add to their scores. */
const biasOf = (forward: Forward, stack: StackName): RelativePositions =>
  relativeBias(forward, {
    table: tableName(stack),
    buckets: bucketsName(stack),
    tokens: stack === "encoder" ? forward.length : forward.decoderCapacity,
  });

const tableName = (stack: StackName): string => `${stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight`;
const bucketsName = (stack: StackName): string => `relative_buckets of the ${stack}`;

function blockProjections(c: Config, { isGated }: FeedForwardKind, block: Block): Projection[] {
  const dense = (role: ProjectionRole, number: number, module: string, from: number, to: number): Projection => {
    const name = `${subLayer(block, number)}.${module}`;
    return { name, in: from, out: to, layout: "out_in", bias: false, layer: block.layer, role };
  };
  const inner = c.num_heads * c.d_kv;
  const attentions = block.stack === "encoder" ? ["SelfAttention"] : ["SelfAttention", "EncDecAttention"];
  const feedForward = attentions.length;
  return [
    ...attentions.flatMap((module, number) => [
      dense("query", number, `${module}.q`, c.d_model, inner),
      dense("key", number, `${module}.k`, c.d_model, inner),
      dense("value", number, `${module}.v`, c.d_model, inner),
      dense("attention_output", number, `${module}.o`, inner, c.d_model),
    ]),
    ...(isGated ? ["wi_0", "wi_1"] : ["wi"]).map((module) =>
      dense("feed_forward_in", feedForward, `DenseReluDense.${module}`, c.d_model, c.d_ff),
    ),
    dense("feed_forward_out", feedForward, "DenseReluDense.wo", c.d_ff, c.d_model),
  ];
}

function t5Parameters(c: Config, blocks: readonly Block[], projections: readonly Projection[]): ParameterSpec[] {
  const norm = (module: string, layer: TensorPlace): ParameterSpec => {
    return { name: `${module}.weight`, shape: [c.d_model], layer };
  };
  const stacks: readonly StackName[] = ["encoder", "decoder"];
  return [
    { name: SHARED, shape: [c.vocab_size, c.d_model], layer: "below" },
    ...projections.flatMap((projection) => projectionParameters(projection)),
    ...stacks.map((stack) => ({
      name: tableName(stack),
      shape: [c.relative_attention_num_buckets, c.num_heads],
      layer: undefined,
    })),
    ...blocks.flatMap((block) =>
      (block.stack === "encoder" ? [0, 1] : [0, 1, 2]).map((number) =>
        norm(`${subLayer(block, number)}.layer_norm`, block.layer),
      ),
    ),
    // The decoder's first layer records the encoder's last norm.
    norm("encoder.final_layer_norm", c.num_layers),
    norm("decoder.final_layer_norm", undefined),
  ];
}
