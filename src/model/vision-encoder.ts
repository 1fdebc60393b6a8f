import * as v from "valibot";
import { ConfigError } from "../base/errors";
import type { Shape } from "../base/shape";
import { addBroadcast } from "../ops/add_broadcast";
import { linear } from "../ops/linear";
import { prepend } from "../ops/prepend";
import type { Value } from "../tape/tape";
import { activationOf, count, GELU_ACTIVATIONS, layerCount, only, parseConfig, probability } from "./config";
import { encoderLayers } from "./encoder-layer";
import type { EncoderLayers, LayerModules } from "./encoder-layer";
import type { Forward } from "./forward";
import { taskOf } from "./heads";
import type { FinalNorm, Head } from "./heads";
import { normParameters, projectionParameters } from "./model";
import type { ImageSpec, Model, ParameterSpec } from "./model";

/** Keys that the configurations of all encoders of images have. */
export const VISION_KEYS = {
  hidden_size: count,
  num_hidden_layers: layerCount,
  num_attention_heads: count,
  image_size: v.optional(count, 224),
  num_channels: v.optional(count, 3),
  qkv_bias: v.optional(v.boolean(), true),
  hidden_act: v.optional(v.string(), "gelu"),
  hidden_dropout_prob: v.optional(probability, 0),
  attention_probs_dropout_prob: v.optional(probability, 0),
} as const;

/** A configuration of an encoder of images. */
export type VisionConfig = { readonly [key in keyof typeof VISION_KEYS]: v.InferOutput<(typeof VISION_KEYS)[key]> } & {
  readonly patch_size: number;
  readonly layer_norm_eps: number;
};

/** Replacements that make the names of transformers 5 from those of checkpoints. */
export type Renames = readonly (readonly [RegExp, string])[];

export const RENAMED_ATTENTION: Renames = [
  [/\.attention\.(?:attention|self)\.(query|key|value)$/, ".attention.$1_proj"],
  [/\.(q|k|v)(?:uery|ey|alue)_proj$/, ".$1_proj"],
  [/\.attention\.output\.dense$/, ".attention.o_proj"],
];

/** An encoder of images as ViT: patches behind tokens that learn, learned positions, pre-norm layers, and a last norm. */
export interface VisionEncoder {
  /** The configuration's `model_type`, and the first part of the names of its tensors. */
  readonly family: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly c: VisionConfig;
  readonly neurons: number;
  readonly modules: LayerModules;
  /** Tokens in front of the patches, by their names among the embeddings. */
  readonly tokens: readonly string[];
  readonly renames: Renames;
  /** Inputs of its traces by name, for a number of tokens. Default none. */
  readonly constants?: (tokens: number) => Readonly<Record<string, Float32Array>>;
  head(norm: FinalNorm): Head;
}

/** The model of an encoder of images. */
export function visionEncoder(encoder: VisionEncoder): Model {
  const { family, config, c, constants } = encoder;
  parseConfig(v.object({ head_dim: only(c.hidden_size / c.num_attention_heads) }), config);
  const image = imageOf(c);
  const task = taskOf(config, family, ["image_classification"], "image_classification");
  const head = encoder.head((forward, x) => forward.layerNorm(`${family}.layernorm`, x, c.layer_norm_eps));
  const layers = encoderLayers(layersOfImages(encoder));
  const projections = [...layers.projections, ...head.projections];
  const tokens = (image.size / image.patch) ** 2 + encoder.tokens.length;
  const renamed = renamedBy(encoder.renames);
  return {
    ...layers.model,
    family,
    config,
    projections,
    task,
    classes: head.classes,
    heads: head.heads,
    image,
    parameters: [
      ...embeddingParameters(encoder, image, tokens),
      ...projections.flatMap((projection) => projectionParameters(projection)),
      ...layers.parameters,
      ...normParameters(`${family}.layernorm`, c.hidden_size, undefined),
    ],
    vocabularySize: 0,
    maxLength: tokens,
    padId: 0,
    defaultTargets: ["query", "value"],
    biasKeys: { qkv_bias: ["query", "key", "value"] },
    aliases: (name) => aliasesOf(name, family, renamed),
    renamed,
    ignores: (name) =>
      /(?:^|\.)pooler\.|(?:^|\.)embeddings\.mask_token$|^(?:(?:cls|distillation)_classifier|decoder)\./.test(name),
    ...(constants && { constants: (positions: Int32Array) => constants(positions.length) }),
    embed: (forward) => embed(forward, encoder, image),
    head: (forward, x) => head.apply(forward, x),
  };
}

/** A module's name after replacements. */
export const renamedBy =
  (renames: Renames) =>
  (module: string): string =>
    renames.reduce((name, [from, to]) => name.replace(from, to), module);

/** Names of a tensor in files of older versions and of transformers 5, with and without the family's prefix. */
export function aliasesOf(name: string, family: string, renamed: (module: string) => string): string[] {
  const [, module = name, part = ""] = /^(.+)(\.(?:weight|bias))$/.exec(name) ?? [];
  const names = [name, renamed(module) + part];
  const bare = (full: string): string => (full.startsWith(`${family}.`) ? full.slice(family.length + 1) : full);
  return [...new Set([...names, ...names.map(bare)])];
}

function layersOfImages({ family, c, neurons, modules }: VisionEncoder): EncoderLayers {
  const dropout = c.hidden_dropout_prob;
  return {
    count: c.num_hidden_layers,
    path: (index) => `${family}.encoder.layer.${index}`,
    modules,
    norms: "before",
    hidden: c.hidden_size,
    heads: c.num_attention_heads,
    neurons,
    eps: c.layer_norm_eps,
    approximation: activationOf(c.hidden_act, GELU_ACTIVATIONS),
    queryKeyValueBias: c.qkv_bias,
    dropout: { weights: c.attention_probs_dropout_prob, attention: dropout, feedForward: dropout },
  };
}

/** The images of a configuration. @throws ConfigError for images that are not covered by patches. */
export function imageOf(c: Pick<VisionConfig, "image_size" | "patch_size" | "num_channels">): ImageSpec {
  const { image_size: size, patch_size: patch, num_channels: channels } = c;
  if (size % patch === 0) return { size, patch, channels };
  throw new ConfigError(
    `config.json: image_size ${size} is not a multiple of patch_size ${patch}.`,
    "Correct config.json: patches must cover an image.",
  );
}

function embed(forward: Forward, { family, c, tokens }: VisionEncoder, image: ImageSpec): Value {
  const { recorder } = forward;
  const parameter = (name: string): Value => forward.parameter(`${family}.embeddings.${name}`);
  return recorder.labelled(`${family}.embeddings`, () => {
    const patches = projectedPatches(forward, family, image);
    const a = tokens.reduceRight((x, token) => recorder.apply(prepend, { head: parameter(token), x }, {}), patches);
    const b = parameter("position_embeddings");
    return forward.dropout(recorder.apply(addBroadcast, { a, b }, {}), c.hidden_dropout_prob);
  });
}

/** Patches of the images, each projected to the model's width [size, patches, width]. */
export function projectedPatches(forward: Forward, family: string, image: ImageSpec): Value {
  const projection = `${family}.embeddings.patch_embeddings.projection`;
  const [w, bias] = [forward.parameter(`${projection}.weight`), forward.parameter(`${projection}.bias`)];
  return forward.recorder.apply(linear, { x: forward.patches(image), w, bias }, { layout: "out_in" });
}

/** The tensors of `projectedPatches`. */
export function patchParameters(family: string, { patch, channels }: ImageSpec, width: number): ParameterSpec[] {
  const projection = `${family}.embeddings.patch_embeddings.projection`;
  return [
    { name: `${projection}.weight`, shape: [width, channels, patch, patch], layer: "below" },
    { name: `${projection}.bias`, shape: [width], layer: "below" },
  ];
}

function embeddingParameters(encoder: VisionEncoder, image: ImageSpec, tokens: number): ParameterSpec[] {
  const { family, c } = encoder;
  const d = c.hidden_size;
  const embedding = (name: string, shape: Shape): ParameterSpec => {
    return { name: `${family}.embeddings.${name}`, shape, layer: "below" };
  };
  return [
    ...encoder.tokens.map((token) => embedding(token, [1, 1, d])),
    embedding("position_embeddings", [1, tokens, d]),
    ...patchParameters(family, image, d),
  ];
}
