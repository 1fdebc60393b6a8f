/** Consecutive outputs or inputs of a projection, cut into groups of equal size. */
export interface Span {
  readonly projection: string;
  /** First output or input. */
  readonly offset: number;
  /** Outputs or inputs per group. */
  readonly size: number;
}

/**
 * The attention heads or the neurons of a layer. They are pruned in groups, without changing the shape of any tensor. With
 * grouped queries, a group of heads is a key-value head with all its query heads.
 */
export interface Structure {
  readonly kind: "heads" | "neurons";
  readonly layer: number;
  readonly groups: number;
  /** Outputs of projections that form the groups. A group contributes nothing when they are 0. */
  readonly outputs: readonly Span[];
  /** Inputs of projections that read those outputs. */
  readonly inputs: readonly Span[];
}

/** Names of the projections of a layer, relative to the layer. A fused projection has several roles. */
export interface LayerModules {
  readonly queries: string;
  readonly keys: string;
  readonly values: string;
  /** Projection of what attention gives. */
  readonly mixed: string;
  /** Projections into the feed-forward's neurons. */
  readonly wide: readonly string[];
  /** Projection out of the feed-forward's neurons. */
  readonly narrow: string;
}

/** Sizes of a model's structures. */
export interface StructureSizes {
  readonly heads: number;
  /** Default `heads`. */
  readonly kvHeads?: number;
  readonly headSize: number;
  readonly neurons: number;
}

/** Heads and neurons of a layer. `path` is the name of the layer's module. */
export function layerStructures(
  layer: number,
  path: string,
  modules: LayerModules,
  { heads, kvHeads = heads, headSize, neurons }: StructureSizes,
): Structure[] {
  const queriesPerGroup = (heads / kvHeads) * headSize;
  // A fused projection gives queries, keys and values one after the other.
  const isFused = modules.queries === modules.keys;
  const span = (module: string, size: number, offset = 0): Span => ({ projection: `${path}.${module}`, offset, size });
  const width = heads * headSize;
  return [
    {
      kind: "heads",
      layer,
      groups: kvHeads,
      outputs: [
        span(modules.queries, queriesPerGroup),
        span(modules.keys, headSize, isFused ? width : 0),
        span(modules.values, headSize, isFused ? 2 * width : 0),
      ],
      inputs: [span(modules.mixed, queriesPerGroup)],
    },
    {
      kind: "neurons",
      layer,
      groups: neurons,
      outputs: modules.wide.map((module) => span(module, 1)),
      inputs: [span(modules.narrow, 1)],
    },
  ];
}
