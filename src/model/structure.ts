/** A run of a projection's outputs or inputs, cut into equal groups. */
export interface Span {
  readonly projection: string;
  /** First output or input. */
  readonly offset: number;
  /** How many belong to each group. */
  readonly size: number;
}

/**
 * One kind of structure of a layer that can be left out group by group without changing a shape: attention heads (with
 * grouped queries, all heads of a key-value head), neurons of the feed-forward.
 */
export interface Structure {
  readonly kind: "heads" | "neurons";
  readonly layer: number;
  readonly groups: number;
  /** Outputs that make the groups: with these 0, a group gives nothing. */
  readonly made: readonly Span[];
  /** Inputs that read them. */
  readonly read: readonly Span[];
}

/** The modules of a layer's structures, without the layer's own path; several are parts of one where it is fused. */
export interface LayerModules {
  readonly queries: string;
  readonly keys: string;
  readonly values: string;
  readonly mixed: string;
  readonly wide: readonly string[];
  readonly narrow: string;
}

/** Sizes of a model's structures. */
export interface StructureSizes {
  readonly heads: number;
  readonly kvHeads?: number;
  readonly headSize: number;
  readonly neurons: number;
}

/** Heads and neurons of the layer at a path. */
export function layerStructures(
  layer: number,
  at: string,
  modules: LayerModules,
  { heads, kvHeads = heads, headSize, neurons }: StructureSizes,
): Structure[] {
  const queries = (heads / kvHeads) * headSize;
  // A fused projection holds queries, keys and values one after the other.
  const isFused = modules.queries === modules.keys;
  const span = (module: string, size: number, offset = 0): Span => ({ projection: `${at}.${module}`, offset, size });
  const width = heads * headSize;
  return [
    {
      kind: "heads",
      layer,
      groups: kvHeads,
      read: [span(modules.mixed, queries)],
      made: [
        span(modules.queries, queries),
        span(modules.keys, headSize, isFused ? width : 0),
        span(modules.values, headSize, isFused ? 2 * width : 0),
      ],
    },
    {
      kind: "neurons",
      layer,
      groups: neurons,
      read: [span(modules.narrow, 1)],
      made: modules.wide.map((module) => span(module, 1)),
    },
  ];
}
