import * as v from "valibot";
import { ConfigError } from "../base/errors";
import type { Shape } from "../base/shape";
import { addBroadcast } from "../ops/add_broadcast";
import { gelu } from "../ops/gelu";
import { linear } from "../ops/linear";
import { prepend } from "../ops/prepend";
import type { Value } from "../tape/tape";
import { activationOf, count, GELU_ACTIVATIONS, layerCount, parseConfig, probability } from "./config";
import type { Forward } from "./forward";
import { imageClassifier, taskOf } from "./heads";
import { layersOf, normParameters, projectionParameters } from "./model";
import type { ImageSpec, Model, ParameterSpec, Projection, ProjectionRole } from "./model";
import { layerStructures } from "./structure";

const SCHEMA = v.object({
  hidden_size: count,
  num_hidden_layers: layerCount,
  num_attention_heads: count,
  intermediate_size: count,
  image_size: v.optional(count, 224),
  patch_size: v.optional(count, 16),
  num_channels: v.optional(count, 3),
  qkv_bias: v.optional(v.boolean(), true),
  layer_norm_eps: v.optional(v.number(), 1e-12),
  hidden_act: v.optional(v.string(), "gelu"),
  hidden_dropout_prob: v.optional(probability, 0),
  attention_probs_dropout_prob: v.optional(probability, 0),
});

type Config = v.InferOutput<typeof SCHEMA>;

const PATCHES = "vit.embeddings.patch_embeddings.projection";

/** Replacements that make the names of transformers 5 from those of checkpoints. */
const RENAMES: readonly (readonly [RegExp, string])[] = [
  [/^vit\.encoder\.layer\./, "vit.layers."],
  [/\.attention\.attention\.(query|key|value)$/, ".attention.$1_proj"],
  [/\.(q|k|v)(?:uery|ey|alue)_proj$/, ".$1_proj"],
  [/\.attention\.output\.dense$/, ".attention.o_proj"],
  [/\.intermediate\.dense$/, ".mlp.fc1"],
  [/\.output\.dense$/, ".mlp.fc2"],
];

/** ViT (Dosovitskiy et al. 2021), pre-norm, with Hugging Face's classifier on the class token. */
export function vit(config: Readonly<Record<string, unknown>>): Model {
  const c = parseConfig(SCHEMA, config);
  const approximation = activationOf(c.hidden_act, GELU_ACTIVATIONS);
  const image = imageOf(c);
  const task = taskOf(config, "vit", ["image_classification"], "image_classification");
  const head = imageClassifier(config, c.hidden_size, (forward, x) =>
    forward.layerNorm("vit.layernorm", x, c.layer_norm_eps),
  );
  const projections = [...layerProjections(c), ...head.projections];
  const tokens = (image.size / image.patch) ** 2 + 1;
  return {
    family: "vit",
    config,
    projections,
    task,
    classes: head.classes,
    heads: head.heads,
    image,
    parameters: vitParameters(c, image, tokens, projections),
    layers: c.num_hidden_layers,
    hiddenSize: c.hidden_size,
    vocabularySize: 0,
    maxLength: tokens,
    padId: 0,
    defaultTargets: ["query", "value"],
    biasKeys: { qkv_bias: ["query", "key", "value"] },
    aliases,
    renamed,
    ignores: (name) => /(?:^|\.)pooler\.|(?:^|\.)embeddings\.mask_token$/.test(name),
    structures: (index) =>
      layerStructures(index, projections, {
        heads: c.num_attention_heads,
        headSize: c.hidden_size / c.num_attention_heads,
        neurons: c.intermediate_size,
      }),
    embed: (forward) => embed(forward, c, image),
    activation: approximation === "tanh" ? "gelu_tanh" : "gelu",
    hiddenDropout: c.hidden_dropout_prob,
    ...layersOf({
      attention: (forward, index, x) => attentionPart(forward, c, index, x),
      feedForward: (forward, index, x) => feedForwardPart(forward, c, approximation, index, x),
    }),
    head: (forward, x) => head.apply(forward, x),
  };
}

const renamed = (module: string): string => RENAMES.reduce((name, [from, to]) => name.replace(from, to), module);

/** Names of a tensor in published files: of older versions and of transformers 5, with and without the prefix. */
function aliases(name: string): string[] {
  const [, module = name, part = ""] = /^(.+)(\.(?:weight|bias))$/.exec(name) ?? [];
  const names = [name, renamed(module) + part];
  return [...new Set([...names, ...names.map((full) => full.replace(/^vit\./, ""))])];
}

function imageOf(c: Config): ImageSpec {
  const { image_size: size, patch_size: patch, num_channels: channels } = c;
  if (size % patch === 0) return { size, patch, channels };
  throw new ConfigError(
    `config.json: image_size ${size} is not a multiple of patch_size ${patch}.`,
    "Correct config.json: patches must cover an image.",
  );
}

function embed(forward: Forward, c: Config, image: ImageSpec): Value {
  const { recorder } = forward;
  return recorder.labelled("vit.embeddings", () => {
    const weights = { w: forward.parameter(`${PATCHES}.weight`), bias: forward.parameter(`${PATCHES}.bias`) };
    const projected = recorder.apply(linear, { x: forward.patches(image), ...weights }, { layout: "out_in" });
    const withClass = recorder.apply(
      prepend,
      { head: forward.parameter("vit.embeddings.cls_token"), x: projected },
      {},
    );
    const positions = forward.parameter("vit.embeddings.position_embeddings");
    return forward.dropout(recorder.apply(addBroadcast, { a: withClass, b: positions }, {}), c.hidden_dropout_prob);
  });
}

function attentionPart(forward: Forward, c: Config, index: number, x: Value): Value {
  const path = `vit.encoder.layer.${index}`;
  const before = forward.layerNorm(`${path}.layernorm_before`, x, c.layer_norm_eps);
  const project = (name: string): Value => forward.linear(`${path}.attention.attention.${name}`, before);
  const mixed = forward.attention(
    `${path}.attention`,
    { q: project("query"), k: project("key"), v: project("value") },
    {
      headSize: c.hidden_size / c.num_attention_heads,
      causal: false,
      dropout: c.attention_probs_dropout_prob,
    },
  );
  const attended = forward.dropout(forward.linear(`${path}.attention.output.dense`, mixed), c.hidden_dropout_prob);
  return forward.block({ name: `${path}.attention`, layer: index, x: attended, input: before, residual: x });
}

function feedForwardPart(
  forward: Forward,
  c: Config,
  approximation: "none" | "tanh",
  index: number,
  between: Value,
): Value {
  const path = `vit.encoder.layer.${index}`;
  const inner = forward.layerNorm(`${path}.layernorm_after`, between, c.layer_norm_eps);
  const narrow = forward.feedForward(index, () => {
    const wide = forward.linear(`${path}.intermediate.dense`, inner);
    const active = forward.recorder.labelled(`${path}.intermediate`, () =>
      forward.recorder.apply(gelu, { x: wide }, { approximation }),
    );
    return forward.dropout(forward.linear(`${path}.output.dense`, active), c.hidden_dropout_prob);
  });
  return forward.block({ name: `${path}.output`, layer: index, x: narrow, input: inner, residual: between });
}

function layerProjections(c: Config): Projection[] {
  const { hidden_size: d, intermediate_size: wide } = c;
  return Array.from({ length: c.num_hidden_layers }, (_, layer) => {
    const dense = (role: ProjectionRole, module: string, from: number, to: number, bias = true): Projection => {
      return { name: `vit.encoder.layer.${layer}.${module}`, in: from, out: to, layout: "out_in", bias, layer, role };
    };
    return [
      dense("query", "attention.attention.query", d, d, c.qkv_bias),
      dense("key", "attention.attention.key", d, d, c.qkv_bias),
      dense("value", "attention.attention.value", d, d, c.qkv_bias),
      dense("attention_output", "attention.output.dense", d, d),
      dense("feed_forward_in", "intermediate.dense", d, wide),
      dense("feed_forward_out", "output.dense", wide, d),
    ];
  }).flat();
}

function vitParameters(
  c: Config,
  image: ImageSpec,
  tokens: number,
  projections: readonly Projection[],
): ParameterSpec[] {
  const { hidden_size: d } = c;
  const embedding = (name: string, shape: Shape): ParameterSpec => {
    return { name: `vit.embeddings.${name}`, shape, layer: "below" };
  };
  const layerNorms = (layer: number): ParameterSpec[] => [
    ...normParameters(`vit.encoder.layer.${layer}.layernorm_before`, d, layer),
    ...normParameters(`vit.encoder.layer.${layer}.layernorm_after`, d, layer),
  ];
  return [
    embedding("cls_token", [1, 1, d]),
    embedding("position_embeddings", [1, tokens, d]),
    embedding("patch_embeddings.projection.weight", [d, image.channels, image.patch, image.patch]),
    embedding("patch_embeddings.projection.bias", [d]),
    ...projections.flatMap((projection) => projectionParameters(projection)),
    ...Array.from({ length: c.num_hidden_layers }, (_, layer) => layerNorms(layer)).flat(),
    ...normParameters("vit.layernorm", d, undefined),
  ];
}
