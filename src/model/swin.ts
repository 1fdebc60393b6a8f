import { arrangeRows } from "../ops/arrange_rows";
import { embedding } from "../ops/embedding";
import { relativeAttention } from "../ops/relative_attention";
import { relu } from "../ops/relu";
import { rmsNorm } from "../ops/rms_norm";
import { scale } from "../ops/scale";
import { scaleColumns } from "../ops/scale_columns";
import { scaleRows } from "../ops/scale_rows";
import { unary } from "../ops/unary";
import type { Value } from "../tape/tape";
import { activationOf, GELU_ACTIVATIONS } from "./config";
import { encoderLayers } from "./encoder-layer";
import type { EncoderLayers, LayerModules } from "./encoder-layer";
import type { Forward } from "./forward";
import { pooledClassifier, taskOf } from "./heads";
import { normParameters, projectionParameters } from "./model";
import type { Model, ParameterSpec, Projection } from "./model";
import { constantsOf, mergingNames, positionEntries, windowNames } from "./swin-inputs";
import { swinOf } from "./swin-stages";
import type { Stage, Swin } from "./swin-stages";
import { aliasesOf, patchParameters, projectedPatches, RENAMED_ATTENTION, renamedBy } from "./vision-encoder";
import { isPadded, isWhole, windowCount } from "./windows";
import type { Windows } from "./windows";

/** Epsilon of the norms outside the blocks, which no key changes. */
const OUTER_EPS = 1e-5;
/** Neurons of Swin v2's network of positions. */
const POSITION_NEURONS = 512;
/** Largest logarithm of the factor of Swin v2's scores. */
const LARGEST_SCALE = Math.log(100);

const MODULES: LayerModules = {
  query: "attention.self.query",
  key: "attention.self.key",
  value: "attention.self.value",
  attentionOutput: "attention.output.dense",
  attentionNorm: "layernorm_before",
  feedForwardIn: "intermediate.dense",
  feedForwardOut: "output.dense",
  feedForwardNorm: "layernorm_after",
  attention: "attention",
  feedForward: "output",
};
const TABLE = "attention.self.relative_position_bias_table";
const POSITIONS = "attention.self.continuous_position_bias_mlp";
const SCALE = "attention.self.logit_scale";

/**
 * Swin (Liu et al. 2021): attention within windows of an image's tokens, which are shifted in every other block, and maps of half
 * as many tokens a side from stage to stage. Keys of another part of the image get no weight; transformers takes 100 from their
 * scores, which is the same unless scores are that far apart.
 */
export const swin = (config: Readonly<Record<string, unknown>>): Model => modelOf("swin", config);

/**
 * Swin v2 (Liu et al. 2022): norms act on what sub-layers give out, scores are cosines times a learned factor, and numbers for
 * differences of positions come from a small network of these differences.
 */
export const swinv2 = (config: Readonly<Record<string, unknown>>): Model => modelOf("swinv2", config);

function modelOf(family: Swin["family"], config: Readonly<Record<string, unknown>>): Model {
  const s = swinOf(family, config);
  const { c, image } = s;
  const task = taskOf(config, family, ["image_classification"], "image_classification");
  const last = s.stages.at(-1)!;
  const head = pooledClassifier(config, {
    hidden: last.width,
    norm: (forward, x) => forward.layerNorm(`${family}.layernorm`, x, c.layer_norm_eps),
    weights: "mean_of_tokens",
    sums: 1,
  });
  const layers = s.stages.map((stage) => encoderLayers(layersOf(s, stage)));
  const inLayers = s.stages.flatMap((stage, i) => [
    ...mergings(s, stage),
    ...layers[i]!.projections,
    ...positionProjections(s, stage),
  ]);
  const projections = [...inLayers, ...head.projections];
  const renamed = renamedBy(family === "swin" ? RENAMES : []);
  const stageOf = (layer: number): Stage => s.stages.findLast(({ first }) => first <= layer)!;
  // Layers of different widths cannot carry two streams.
  const { parts: _parts, ...ofLayers } = layers.at(-1)!.model;
  return {
    ...ofLayers,
    family,
    config,
    projections,
    task,
    classes: head.classes,
    heads: head.heads,
    image,
    parameters: [
      ...patchParameters(family, image, c.embed_dim),
      ...normParameters(`${family}.embeddings.norm`, c.embed_dim, "below"),
      ...projections.flatMap((projection) => projectionParameters(projection)),
      ...layers.flatMap(({ parameters }) => parameters),
      ...s.stages.flatMap((stage) => [...mergingNorm(s, stage), ...positionParameters(s, stage)]),
      ...normParameters(`${family}.layernorm`, last.width, undefined),
    ],
    layers: s.blocks,
    states(above) {
      const { width, windows } = stageOf(Math.max(0, above - 1));
      return { tokens: windows[0].side ** 2, width };
    },
    vocabularySize: 0,
    maxLength: (image.size / image.patch) ** 2,
    padId: 0,
    defaultTargets: ["query", "value"],
    biasKeys: { qkv_bias: family === "swin" ? ["query", "key", "value"] : ["query", "value"] },
    aliases: (name) => aliasesOf(name, family, renamed),
    renamed,
    ignores: (name) =>
      /\.relative_(?:position_index|coords_table)$|\.attn_mask$|(?:^|\.)embeddings\.mask_token$|^decoder\./.test(name),
    structures: (layer) => layers[stageOf(layer).index]!.model.structures(layer),
    constants: (_positions, { size }, seeds = (parts) => new Uint32Array(2 * size * parts)) =>
      constantsOf(s, size, seeds),
    embed: (forward) =>
      forward.recorder.labelled(`${family}.embeddings`, () => {
        const patches = projectedPatches(forward, family, image);
        return forward.dropout(
          forward.layerNorm(`${family}.embeddings.norm`, patches, OUTER_EPS),
          c.hidden_dropout_prob,
        );
      }),
    layer(forward, index, x) {
      const stage = stageOf(index);
      const entering = index === stage.first && index > 0 ? merged(forward, s, stage, x) : x;
      return layers[stage.index]!.model.layer(forward, index, entering);
    },
    head: (forward, x) => head.apply(forward, x),
  };
}

const RENAMES = [
  ...RENAMED_ATTENTION,
  [/\.attention\.self\.(relative_position_bias_table)$/, ".attention.relative_position_bias.$1"],
  [/\.intermediate\.dense$/, ".mlp.fc1"],
  [/\.output\.dense$/, ".mlp.fc2"],
] as const;

/** A stage's blocks. */
function layersOf(s: Swin, stage: Stage): EncoderLayers {
  const { family, c, blocks } = s;
  const isFirst = family === "swin";
  const dropPath = (forward: Forward, index: number, x: Value): Value =>
    stochasticDepth(forward, (c.drop_path_rate * index) / Math.max(1, blocks - 1), x);
  return {
    count: stage.depth,
    first: stage.first,
    path: (index) => blockPath(s, stage, index),
    modules: MODULES,
    norms: isFirst ? "before" : "output",
    hidden: stage.width,
    heads: stage.heads,
    neurons: Math.trunc(stage.width * c.mlp_ratio),
    eps: c.layer_norm_eps,
    approximation: activationOf(c.hidden_act, GELU_ACTIVATIONS),
    queryKeyValueBias: c.qkv_bias,
    keyBias: isFirst && c.qkv_bias,
    dropout: {
      weights: c.attention_probs_dropout_prob,
      attention: isFirst ? c.hidden_dropout_prob : c.attention_probs_dropout_prob,
      feedForward: c.hidden_dropout_prob,
    },
    attention: (forward, index, x, norm) => attentionOf(forward, s, stage, index, x, norm),
    // As transformers has it: the paper drops both branches in both versions.
    passing: isFirst ? { attention: dropPath } : { attention: dropPath, feedForward: dropPath },
    hasHeadTable: true,
  };
}

const blockPath = ({ family }: Swin, { index, first }: Stage, layer: number): string =>
  `${family}.encoder.layers.${index}.blocks.${layer - first}`;

/** Drops a sub-layer's output for whole images, and divides that of the others by the share of those that stay. */
function stochasticDepth(forward: Forward, probability: number, x: Value): Value {
  if (!forward.isTraining || probability === 0) return x;
  const { recorder, batch } = forward;
  const tokens = x.shape[1]!;
  const table = forward.dropout(recorder.input("ones", [batch.size, 1]), probability);
  const ids = recorder.input(`images of ${tokens} tokens`, [batch.size * tokens], "i32");
  const b = recorder.apply(embedding, { table, ids }, {});
  return recorder.apply(scaleRows, { a: x, b }, {});
}

/** Attention within the windows of a block, from hidden states [b, t, d] to the output of its last projection [b, t, d]. */
function attentionOf(
  forward: Forward,
  s: Swin,
  stage: Stage,
  index: number,
  x: Value,
  norm: (x: Value) => Value,
): Value {
  const { recorder, batch } = forward;
  const path = blockPath(s, stage, index);
  const windows = stage.windows[(index - stage.first) % 2]!;
  const rows = [batch.size * windowCount(windows), windows.window ** 2] as const;
  // A norm of tokens in windows keeps what the projections keep anyway. What fills a map up is 0 behind the norm.
  const input = isPadded(windows) ? cut(forward, stage, windows, norm(x)) : norm(cut(forward, stage, windows, x));
  const project = (module: string): Value => forward.linear(`${path}.${module}`, input);
  const [query, key, value] = [project(MODULES.query), project(MODULES.key), project(MODULES.value)];
  const { q, k, table, scoreScale } =
    s.family === "swin"
      ? { q: query, k: key, table: forward.parameter(`${path}.${TABLE}`), scoreScale: undefined }
      : cosines(forward, s, stage, path, query, key);
  const names = windowNames(stage, windows);
  const mixed = forward.attention(
    `${path}.attention.self`,
    {
      q,
      k,
      v: value,
      mask: recorder.input(names.regions, rows, "i32"),
      seed: recorder.input(names.seeds, [rows[0], 2], "u32"),
      relative: { op: relativeAttention, table, columns: windows.window },
    },
    {
      headSize: stage.width / stage.heads,
      causal: false,
      dropout: s.c.attention_probs_dropout_prob,
      scale: scoreScale,
      segments: windows.shift > 0,
    },
  );
  return joined(forward, stage, windows, forward.linear(`${path}.${MODULES.attentionOutput}`, mixed));
}

/** Queries and keys of Swin v2, whose products are cosines times each head's factor, and its numbers for differences of positions. */
function cosines(forward: Forward, s: Swin, stage: Stage, path: string, query: Value, key: Value) {
  const { recorder } = forward;
  const headSize = stage.width / stage.heads;
  return recorder.labelled(`${path}.attention.self`, () => {
    const weight = recorder.input(`ones of stage ${stage.index}`, [headSize]);
    // Of the length 1e-12 in torch's normalize: the root mean square differs from the norm by a factor, which `scoreScale` has.
    const attributes = { eps: 1e-24 / headSize, offset: 0, keep: "y" } as const;
    const [a, k] = [query, key].map((x) => recorder.apply(rmsNorm, { x, weight }, attributes));
    const logarithms = { x: forward.parameter(`${path}.${SCALE}`) };
    const x = recorder.apply(unary, logarithms, { kind: "clamp", numbers: [-1e30, LARGEST_SCALE] });
    const factors = recorder.apply(unary, { x }, { kind: "exp", numbers: [] });
    const ids = recorder.input(`heads of stage ${stage.index}`, [stage.width], "i32");
    const b = recorder.apply(embedding, { table: factors, ids }, {});
    const q = recorder.apply(scaleColumns, { a: a!, b }, {});
    return { q, k: k!, table: positionNumbers(forward, s, stage, path), scoreScale: 1 / headSize };
  });
}

/** 16 sigmoid(x) of the network of positions [entries, heads]. */
function positionNumbers(forward: Forward, s: Swin, stage: Stage, path: string): Value {
  const { recorder } = forward;
  const x = recorder.input(`positions of stage ${stage.index}`, [positionEntries(stage), 2]);
  const out = forward.ofBatch(() => {
    const hidden = recorder.apply(relu, { x: forward.linear(`${path}.${POSITIONS}.0`, x) }, {});
    return forward.linear(`${path}.${POSITIONS}.2`, hidden);
  });
  const shares = recorder.apply(unary, { x: out }, { kind: "sigmoid", numbers: [] });
  return recorder.apply(scale, { x: shares }, { factor: 16 });
}

/** A map's tokens [b, t, d] in windows [b * windows, tokens of a window, d]. */
function cut(forward: Forward, stage: Stage, windows: Windows, x: Value): Value {
  if (isWhole(windows)) return x;
  const { tokens: from, places: back } = windowTables(forward, stage, windows);
  const attributes = { texts: forward.batch.size, group: windows.window ** 2, joined: 1 };
  return forward.recorder.apply(arrangeRows, { x, from, back }, attributes);
}

/** What `cut` cut, in the order of the map. */
function joined(forward: Forward, stage: Stage, windows: Windows, x: Value): Value {
  if (isWhole(windows)) return x;
  const { tokens: back, places: from } = windowTables(forward, stage, windows);
  const attributes = { texts: forward.batch.size, group: windows.side ** 2, joined: 1 };
  return forward.recorder.apply(arrangeRows, { x, from, back }, attributes);
}

function windowTables({ recorder }: Forward, stage: Stage, windows: Windows) {
  const names = windowNames(stage, windows);
  return {
    tokens: recorder.input(names.tokens, [windowCount(windows) * windows.window ** 2], "i32"),
    places: recorder.input(names.places, [windows.side ** 2], "i32"),
  };
}

const mergingPath = ({ family }: Swin, { index }: Stage): string => `${family}.encoder.layers.${index - 1}.downsample`;

/** What enters a stage behind another: four tokens become one, twice as wide. The merging belongs to the stage's first block. */
function merged(forward: Forward, s: Swin, stage: Stage, x: Value): Value {
  const { recorder, batch } = forward;
  const { side } = s.stages[stage.index - 1]!.windows[0];
  const path = mergingPath(s, stage);
  const names = mergingNames(stage);
  const squares = recorder.labelled(path, () => {
    const group = Math.ceil(side / 2) ** 2;
    const from = recorder.input(names.tokens, [4 * group], "i32");
    const back = recorder.input(names.places, [side ** 2], "i32");
    return recorder.apply(arrangeRows, { x, from, back }, { texts: batch.size, group, joined: 4 });
  });
  const norm = (value: Value): Value => forward.layerNorm(`${path}.norm`, value, OUTER_EPS);
  const reduced = (value: Value): Value => forward.linear(`${path}.reduction`, value);
  return s.family === "swin" ? reduced(norm(squares)) : norm(reduced(squares));
}

/** The projection of the merging before a stage. */
function mergings(s: Swin, stage: Stage): Projection[] {
  if (stage.index === 0) return [];
  const name = `${mergingPath(s, stage)}.reduction`;
  const { first: layer, width } = stage;
  return [{ name, in: 2 * width, out: width, layout: "out_in", bias: false, layer, role: "token_merging" }];
}

function mergingNorm(s: Swin, stage: Stage): ParameterSpec[] {
  if (stage.index === 0) return [];
  const width = s.family === "swin" ? 2 * stage.width : stage.width;
  return normParameters(`${mergingPath(s, stage)}.norm`, width, stage.first);
}

const blocksOf = ({ first, depth }: Stage): number[] => Array.from({ length: depth }, (_, i) => first + i);

/** The projections of Swin v2's networks of positions. */
function positionProjections(s: Swin, stage: Stage): Projection[] {
  if (s.family === "swin") return [];
  return blocksOf(stage).flatMap((layer) => {
    const path = `${blockPath(s, stage, layer)}.${POSITIONS}`;
    const common = { layout: "out_in", layer, role: undefined } as const;
    return [
      { name: `${path}.0`, in: 2, out: POSITION_NEURONS, bias: true, ...common },
      { name: `${path}.2`, in: POSITION_NEURONS, out: stage.heads, bias: false, ...common },
    ];
  });
}

/** Tables for differences of positions (Swin), factors of the scores (Swin v2). */
function positionParameters(s: Swin, stage: Stage): ParameterSpec[] {
  return blocksOf(stage).map((layer) => {
    const path = blockPath(s, stage, layer);
    return s.family === "swin"
      ? { name: `${path}.${TABLE}`, shape: [positionEntries(stage), stage.heads], layer, initial: 0 }
      : { name: `${path}.${SCALE}`, shape: [stage.heads, 1, 1], layer, initial: Math.log(10) };
  });
}
