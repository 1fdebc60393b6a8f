import { gelu } from "../ops/gelu";
import { scaleColumns } from "../ops/scale_columns";
import type { Value } from "../tape/tape";
import type { BlockSite, Forward, RelativePositions } from "./forward";
import { layersOf, normParameters } from "./model";
import type { LayerParts, Model, ParameterSpec, Projection, ProjectionRole } from "./model";
import { layerStructures } from "./structure";

/** Names of a layer's modules, behind the layer's own path. */
export interface LayerModules {
  readonly query: string;
  readonly key: string;
  readonly value: string;
  readonly attentionOutput: string;
  readonly attentionNorm: string;
  readonly feedForwardIn: string;
  readonly feedForwardOut: string;
  readonly feedForwardNorm: string;
  /** The two sub-layers: bottleneck adapters are named by them. */
  readonly attention: string;
  readonly feedForward: string;
  /** Tensors [hidden] by which the sub-layers' outputs are multiplied (layer scale). Default none. */
  readonly attentionScale?: string;
  readonly feedForwardScale?: string;
}

/** The layers of an encoder: attention that is not causal, then a feed-forward with GELU. */
export interface EncoderLayers {
  readonly count: number;
  /** Number of the first of them in the model. Default 0. */
  readonly first?: number;
  /** Path of a layer by its number. */
  readonly path: (index: number) => string;
  readonly modules: LayerModules;
  /** Whether norms act on what enters a sub-layer, on its output, or on the sum that leaves it. */
  readonly norms: "before" | "output" | "after";
  readonly hidden: number;
  readonly heads: number;
  readonly neurons: number;
  readonly eps: number;
  readonly approximation: "none" | "tanh";
  /** Whether queries, keys and values have biases. Default true. */
  readonly queryKeyValueBias?: boolean;
  /** Whether keys have one. Default `queryKeyValueBias`. */
  readonly keyBias?: boolean;
  /** Dropout of attention weights, and of the outputs of the two sub-layers. */
  readonly dropout: { readonly weights: number; readonly attention: number; readonly feedForward: number };
  /** How scores of the layer at a path depend on differences of positions. Default not at all. */
  readonly relative?: (forward: Forward, path: string) => RelativePositions;
  /**
   * Records the attention of the layer at a path in a family's own way: x [b, t, d] to the output of the last projection. `norm`
   * is that of what enters a sub-layer. The sub-layer's input is then x for adapters, too.
   */
  readonly attention?: (forward: Forward, index: number, x: Value, norm: (x: Value) => Value) => Value;
  /** Records what becomes of a sub-layer's output before its residual is added; see `BlockSite`. Default nothing. */
  readonly passing?: Readonly<Partial<Record<keyof LayerParts, Passing>>>;
  /** Whether a table has a column for each head, so that no layer's heads can be pruned. Default false. */
  readonly hasHeadTable?: boolean;
  /** Factor of the scores. Default 1 / sqrt(hidden / heads). */
  readonly scoreScale?: number;
  /** Whether all layers are the same modules, at the path of layer 0. Default false. */
  readonly isShared?: boolean;
}

/** A function of a layer's number and the output of one of its sub-layers [b, t, d], which it returns changed. */
export type Passing = (forward: Forward, index: number, x: Value) => Value;

/** What a model has of its layers. */
export type LayersOfModel = Pick<
  Model,
  "layers" | "hiddenSize" | "activation" | "hiddenDropout" | "structures" | "layer" | "parts"
>;

/** The layers' part of a model, their projections, and their other parameters. */
export function encoderLayers(layers: EncoderLayers): {
  readonly model: LayersOfModel;
  readonly projections: readonly Projection[];
  readonly parameters: readonly ParameterSpec[];
} {
  const { count, first = 0, hidden, heads, neurons, isShared = false } = layers;
  const places = isShared ? [undefined] : Array.from({ length: count }, (_, i) => first + i);
  const projections = places.flatMap((place) => layerProjections(layers, place));
  const sizes = { heads, headSize: hidden / heads, neurons };
  const { layer, parts } = layersOf({
    attention: (forward, index, x) => attentionPart(forward, layers, index, x),
    feedForward: (forward, index, x) => feedForwardPart(forward, layers, index, x),
  });
  return {
    model: {
      layers: count,
      hiddenSize: hidden,
      activation: layers.approximation === "tanh" ? "gelu_tanh" : "gelu",
      hiddenDropout: layers.dropout.feedForward,
      layer,
      // What is shared can neither be pruned layer by layer nor have an adapter in each layer's streams.
      ...(isShared ? {} : { parts }),
      structures(index) {
        const all = isShared ? [] : layerStructures(index, projections, sizes);
        return layers.hasHeadTable ? all.filter(({ kind }) => kind !== "heads") : all;
      },
    },
    projections,
    parameters: places.flatMap((place) => layerParameters(layers, place)),
  };
}

function attentionPart(forward: Forward, layers: EncoderLayers, index: number, x: Value): Value {
  const { modules, norms, dropout, attention } = layers;
  const name = `${pathOf(layers, index)}.${modules.attentionNorm}`;
  const norm = (value: Value): Value => (norms === "before" ? forward.layerNorm(name, value, layers.eps) : value);
  const input = attention ? x : norm(x);
  const output = attention?.(forward, index, x, norm) ?? attentionOf(forward, layers, index, input);
  const attended = forward.dropout(output, dropout.attention);
  const block = { name: modules.attention, norm: modules.attentionNorm, scale: modules.attentionScale };
  return ended(forward, layers, index, block, { x: attended, input, residual: x, passing: layers.passing?.attention });
}

/** Attention of all tokens of a text, and the projection of its output. */
function attentionOf(forward: Forward, layers: EncoderLayers, index: number, input: Value): Value {
  const { modules } = layers;
  const path = pathOf(layers, index);
  const mixed = forward.attention(
    `${path}.${parentOf(modules.query)}`,
    {
      q: forward.linear(`${path}.${modules.query}`, input),
      k: forward.linear(`${path}.${modules.key}`, input),
      v: forward.linear(`${path}.${modules.value}`, input),
      relative: layers.relative?.(forward, path),
    },
    {
      headSize: layers.hidden / layers.heads,
      causal: false,
      dropout: layers.dropout.weights,
      scale: layers.scoreScale,
    },
  );
  return forward.linear(`${path}.${modules.attentionOutput}`, mixed);
}

function feedForwardPart(forward: Forward, layers: EncoderLayers, index: number, between: Value): Value {
  const { modules, norms } = layers;
  const path = pathOf(layers, index);
  const input =
    norms === "before" ? forward.layerNorm(`${path}.${modules.feedForwardNorm}`, between, layers.eps) : between;
  const narrow = forward.feedForward(index, () => {
    const wide = forward.linear(`${path}.${modules.feedForwardIn}`, input);
    const active = forward.recorder.labelled(`${path}.${parentOf(modules.feedForwardIn)}`, () =>
      forward.recorder.apply(gelu, { x: wide }, { approximation: layers.approximation }),
    );
    return forward.dropout(forward.linear(`${path}.${modules.feedForwardOut}`, active), layers.dropout.feedForward);
  });
  const block = { name: modules.feedForward, norm: modules.feedForwardNorm, scale: modules.feedForwardScale };
  const { passing } = layers;
  return ended(forward, layers, index, block, { x: narrow, input, residual: between, passing: passing?.feedForward });
}

/** Ends a sub-layer: layer scale, a norm of its output, the residual, and the norm that follows it. */
function ended(
  forward: Forward,
  layers: EncoderLayers,
  index: number,
  block: { readonly name: string; readonly norm: string; readonly scale: string | undefined },
  { x, input, residual, passing }: Pick<BlockSite, "x" | "input" | "residual"> & { passing: Passing | undefined },
): Value {
  const path = pathOf(layers, index);
  const name = `${path}.${block.name}`;
  const normed = (value: Value): Value => forward.layerNorm(`${path}.${block.norm}`, value, layers.eps);
  const scaled = (a: Value, scale: string): Value =>
    forward.recorder.labelled(name, () =>
      forward.recorder.apply(scaleColumns, { a, b: forward.parameter(`${path}.${scale}`) }, {}),
    );
  const output = block.scale === undefined ? x : scaled(x, block.scale);
  return forward.block({
    name,
    layer: layers.isShared ? undefined : index,
    x: layers.norms === "output" ? normed(output) : output,
    input,
    residual,
    ...(passing && { passing: (value: Value) => passing(forward, index, value) }),
    ...(layers.norms === "after" && { norm: normed }),
  });
}

const pathOf = ({ path, isShared = false }: EncoderLayers, index: number): string => path(isShared ? 0 : index);

/** The module around a module, or itself where it stands in its layer directly. */
const parentOf = (module: string): string => module.replace(/\.[^.]+$/, "");

function layerProjections(layers: EncoderLayers, layer: number | undefined): Projection[] {
  const { modules, hidden: d, neurons: wide, queryKeyValueBias = true, keyBias = queryKeyValueBias } = layers;
  const dense = (role: ProjectionRole, module: string, from: number, to: number, bias = true): Projection => {
    return { name: `${layers.path(layer ?? 0)}.${module}`, in: from, out: to, layout: "out_in", bias, layer, role };
  };
  return [
    dense("query", modules.query, d, d, queryKeyValueBias),
    dense("key", modules.key, d, d, keyBias),
    dense("value", modules.value, d, d, queryKeyValueBias),
    dense("attention_output", modules.attentionOutput, d, d),
    dense("feed_forward_in", modules.feedForwardIn, d, wide),
    dense("feed_forward_out", modules.feedForwardOut, wide, d),
  ];
}

/** Norms and layer scales. */
function layerParameters({ modules, hidden, path }: EncoderLayers, layer: number | undefined): ParameterSpec[] {
  const full = (name: string): string => `${path(layer ?? 0)}.${name}`;
  const scales = [modules.attentionScale, modules.feedForwardScale].filter((scale) => scale !== undefined);
  return [
    ...normParameters(full(modules.attentionNorm), hidden, layer),
    ...normParameters(full(modules.feedForwardNorm), hidden, layer),
    ...scales.map((scale) => ({ name: full(scale), shape: [hidden], layer })),
  ];
}
