import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { rope } from "../ops/rope";
import { takeColumns } from "../ops/take_columns";
import type { Value } from "../tape/tape";
import { activateGate } from "./activation";
import { activationOf, count, GELU_ACTIVATIONS, layerCount, only, parseConfig, probability } from "./config";
import { headsIn } from "./forward";
import type { Forward } from "./forward";
import { predictionClassifier, taskOf } from "./heads";
import { layersOf, normParameters, projectionParameters } from "./model";
import type { Model, ParameterSpec, Projection, TensorPlace } from "./model";
import { rotationOf, rotationTable } from "./rotation";
import type { Rotation } from "./rotation";
import { layerStructures } from "./structure";
import { ENCODER_TASKS } from "./text-encoder";

const THETA = v.nullish(v.pipe(v.number(), v.gtValue(0)));
const SCHEMA = v.object({
  vocab_size: v.optional(count, 50368),
  hidden_size: count,
  intermediate_size: count,
  num_hidden_layers: layerCount,
  num_attention_heads: count,
  max_position_embeddings: v.optional(count, 8192),
  hidden_activation: v.optional(v.string(), "gelu"),
  norm_eps: v.optional(v.number(), 1e-5),
  norm_bias: v.optional(v.boolean(), false),
  attention_bias: v.optional(v.boolean(), false),
  mlp_bias: v.optional(v.boolean(), false),
  classifier_bias: v.optional(v.boolean(), false),
  classifier_activation: only("gelu"),
  classifier_pooling: v.optional(v.picklist(["cls", "mean"]), "cls"),
  attention_dropout: v.optional(probability, 0),
  embedding_dropout: v.optional(probability, 0),
  mlp_dropout: v.optional(probability, 0),
  classifier_dropout: v.optional(probability, 0),
  /** Tokens to which a token attends in layers with a window, half of them on either side, beside itself. */
  local_attention: v.optional(count, 128),
  layer_types: v.nullish(v.array(v.picklist(["full_attention", "sliding_attention"]))),
  global_attn_every_n_layers: v.optional(count, 3),
  global_rope_theta: THETA,
  local_rope_theta: THETA,
  rope_parameters: v.nullish(v.record(v.string(), v.nullish(v.looseObject({})))),
  /** A scaling of both rotations. */
  rope_scaling: v.nullish(v.looseObject({})),
  pad_token_id: v.nullish(v.pipe(v.number(), v.integer(), v.minValue(0)), 50283),
});

type Config = v.InferOutput<typeof SCHEMA>;

/** A configuration with what follows from it. */
interface Sizes {
  readonly c: Config;
  readonly headSize: number;
  readonly activation: "gelu" | "gelu_tanh";
  /** Names of the layers' rotations: of all tokens, or of a window. */
  readonly rotations: Readonly<Record<"rotation" | "local_rotation", Rotation>>;
}

/**
 * ModernBERT (Warner et al. 2025): pre-norm layers of which two of three attend to a window, with rotary positions, a gated
 * feed-forward, and hardly a bias. The norm of the embeddings is layer 0's first norm as well.
 */
export function modernbert(config: Readonly<Record<string, unknown>>): Model {
  const c = parseConfig(SCHEMA, config);
  const task = taskOf(config, "modernbert", ENCODER_TASKS, "sequence_classification");
  const s = sizesOf(c);
  // Other names of what other keys say.
  const derived = { head_dim: only(s.headSize), sliding_window: only(Math.floor(c.local_attention / 2)) };
  parseConfig(v.object(derived), config);
  const { hidden_size: d, num_hidden_layers: layers } = c;
  const head = predictionClassifier(config, {
    task,
    hidden: d,
    pooling: task === "sequence_classification" || task === "regression" ? c.classifier_pooling : "none",
    bias: c.classifier_bias,
    dropout: c.classifier_dropout,
    norm: (forward, x) => forward.layerNorm("model.final_norm", x, c.norm_eps),
    innerNorm: (forward, x) => forward.layerNorm("head.norm", x, c.norm_eps),
  });
  const projections = [...layerProjections(c), ...head.projections];
  return {
    family: "modernbert",
    config,
    projections,
    task,
    classes: head.classes,
    heads: head.heads,
    normsOfHead: ["head.norm"],
    parameters: parametersOf(c, projections),
    layers,
    hiddenSize: d,
    vocabularySize: c.vocab_size,
    maxLength: c.max_position_embeddings,
    padId: c.pad_token_id,
    wordEmbeddings: `${EMBEDDINGS}.weight`,
    defaultTargets: ["Wqkv"],
    aliases: (name) => [name, name.replace(/^model\./, "")],
    ignores: (name) => /^(?:decoder|classifier)\./.test(name),
    constants: (positions, { length }) => ({
      rotation: rotationTable(s.rotations.rotation, positions, length),
      local_rotation: rotationTable(s.rotations.local_rotation, positions, length),
      ...(!c.norm_bias && { zeros: new Float32Array(d) }),
    }),
    structures: (index) =>
      layerStructures(index, projections, {
        heads: c.num_attention_heads,
        headSize: s.headSize,
        neurons: c.intermediate_size,
        isGateFused: true,
      }),
    embed: (forward) =>
      forward.recorder.labelled("model.embeddings", () => {
        const x = forward.tokenEmbeddings(forward.parameter(`${EMBEDDINGS}.weight`));
        return forward.dropout(forward.layerNorm("model.embeddings.norm", x, c.norm_eps), c.embedding_dropout);
      }),
    activation: s.activation,
    hiddenDropout: c.attention_dropout,
    ...layersOf({
      attention: (forward, index, x) => attentionPart(forward, s, index, x),
      feedForward: (forward, index, x) => feedForwardPart(forward, s, index, x),
    }),
    head: (forward, x) => head.apply(forward, x),
  };
}

const EMBEDDINGS = "model.embeddings.tok_embeddings";

function sizesOf(c: Config): Sizes {
  const headSize = c.hidden_size / c.num_attention_heads;
  if (c.layer_types && c.layer_types.length < c.num_hidden_layers) {
    throw new ConfigError(
      `config.json: layer_types has ${c.layer_types.length} entries for ${c.num_hidden_layers} layers.`,
      "Correct config.json.",
    );
  }
  const rotation = (type: string, theta: number): Rotation =>
    rotationOf(
      { rope_scaling: { ...c.rope_parameters?.[type], ...c.rope_scaling } },
      { headSize, maxLength: c.max_position_embeddings, theta },
    );
  const theta = c.global_rope_theta ?? 160_000;
  return {
    c,
    headSize,
    activation: activationOf(c.hidden_activation, GELU_ACTIVATIONS) === "tanh" ? "gelu_tanh" : "gelu",
    rotations: {
      rotation: rotation("full_attention", theta),
      local_rotation: rotation("sliding_attention", c.local_rope_theta ?? 10_000),
    },
  };
}

/** Whether a layer attends to a window. */
const isLocal = (c: Config, layer: number): boolean =>
  c.layer_types ? c.layer_types[layer] === "sliding_attention" : layer % c.global_attn_every_n_layers !== 0;

function attentionPart(forward: Forward, { c, headSize, rotations }: Sizes, index: number, x: Value): Value {
  const { recorder } = forward;
  const path = `model.layers.${index}`;
  const input = index === 0 ? x : forward.layerNorm(`${path}.attn_norm`, x, c.norm_eps);
  const all = forward.linear(`${path}.attn.Wqkv`, input);
  const rotation = isLocal(c, index) ? "local_rotation" : "rotation";
  const table = forward.rotation(rotation, rotations[rotation].frequencies.length);
  const [q, k, value] = columnParts(forward, `${path}.attn`, all, 3);
  const rotated = (part: Value): Value =>
    recorder.labelled(`${path}.attn`, () =>
      recorder.apply(rope, { x: part, table }, { heads: headsIn(part, { headSize }) }),
    );
  const mixed = forward.attention(
    `${path}.attn`,
    { q: rotated(q!), k: rotated(k!), v: value! },
    {
      headSize,
      causal: false,
      dropout: c.attention_dropout,
      window: isLocal(c, index) ? Math.floor(c.local_attention / 2) : undefined,
    },
  );
  const attended = forward.dropout(forward.linear(`${path}.attn.Wo`, mixed), c.attention_dropout);
  return forward.block({ name: `${path}.attn`, layer: index, x: attended, input, residual: x });
}

function feedForwardPart(forward: Forward, { c, activation }: Sizes, index: number, between: Value): Value {
  const { recorder } = forward;
  const path = `model.layers.${index}`;
  const input = forward.layerNorm(`${path}.mlp_norm`, between, c.norm_eps);
  const narrow = forward.feedForward(index, () => {
    const both = forward.linear(`${path}.mlp.Wi`, input);
    const [gate, up] = columnParts(forward, `${path}.mlp`, both, 2);
    const active = recorder.labelled(`${path}.mlp`, () => activateGate(recorder, activation, { gate: gate!, up: up! }));
    return forward.linear(`${path}.mlp.Wo`, forward.dropout(active, c.mlp_dropout));
  });
  return forward.block({ name: `${path}.mlp`, layer: index, x: narrow, input, residual: between });
}

/** Queries, keys and values, or other equal parts that lie side by side in the columns of x. */
function columnParts(forward: Forward, name: string, x: Value, count: number): Value[] {
  const size = x.shape.at(-1)! / count;
  return Array.from({ length: count }, (_, part) =>
    forward.recorder.labelled(name, () =>
      forward.recorder.apply(takeColumns, { x }, { offset: part * size, size, groups: 1, stride: size }),
    ),
  );
}

function layerProjections(c: Config): Projection[] {
  const { hidden_size: d, intermediate_size: wide } = c;
  return Array.from({ length: c.num_hidden_layers }, (_, layer) => {
    const path = `model.layers.${layer}`;
    const shared = { layout: "out_in", layer } as const;
    const [attention, feedForward] = [
      { ...shared, bias: c.attention_bias },
      { ...shared, bias: c.mlp_bias },
    ];
    return [
      { ...attention, name: `${path}.attn.Wqkv`, in: d, out: 3 * d, role: "query_key_value" },
      { ...attention, name: `${path}.attn.Wo`, in: d, out: d, role: "attention_output" },
      { ...feedForward, name: `${path}.mlp.Wi`, in: d, out: 2 * wide, role: "feed_forward_in" },
      { ...feedForward, name: `${path}.mlp.Wo`, in: wide, out: d, role: "feed_forward_out" },
    ] satisfies Projection[];
  }).flat();
}

function parametersOf(c: Config, projections: readonly Projection[]): ParameterSpec[] {
  const { hidden_size: d } = c;
  const norm = (name: string, layer: TensorPlace): ParameterSpec[] => {
    const both = normParameters(name, d, layer);
    return c.norm_bias ? both : both.slice(0, 1);
  };
  const layerNorms = (layer: number): ParameterSpec[] => [
    ...(layer === 0 ? [] : norm(`model.layers.${layer}.attn_norm`, layer)),
    ...norm(`model.layers.${layer}.mlp_norm`, layer),
  ];
  return [
    { name: `${EMBEDDINGS}.weight`, shape: [c.vocab_size, d], layer: "below" },
    ...norm("model.embeddings.norm", "below"),
    ...projections.flatMap((projection) => projectionParameters(projection)),
    ...Array.from({ length: c.num_hidden_layers }, (_, layer) => layerNorms(layer)).flat(),
    ...norm("model.final_norm", undefined),
    ...norm("head.norm", undefined),
  ];
}
