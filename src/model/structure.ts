import type { Projection, ProjectionRole } from "./model";

/** Consecutive outputs or inputs of a projection, cut into groups of equal size. */
export interface Span {
  readonly projection: string;
  /** First output or input. */
  readonly offset: number;
  /** Outputs or inputs per group. */
  readonly size: number;
}

/**
 * The attention heads or the neurons of a layer, which are pruned in groups. With grouped queries, a group of heads is a
 * key-value head with all its query heads.
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

/** Sizes of a model's structures. */
export interface StructureSizes {
  readonly heads: number;
  /** Default `heads`. */
  readonly kvHeads?: number;
  readonly headSize: number;
  readonly neurons: number;
  /** Whether a projection of queries, keys and values gives those of one head side by side. Default false. */
  readonly isInterleaved?: boolean;
  /** Whether one projection gives the gates of all neurons, then what they multiply. Default false. */
  readonly isGateFused?: boolean;
}

/** Heads and neurons of a layer, by the roles of its projections. */
export function layerStructures(
  layer: number,
  projections: readonly Projection[],
  { heads, kvHeads = heads, headSize, neurons, isInterleaved = false, isGateFused = false }: StructureSizes,
): Structure[] {
  const queriesPerGroup = (heads / kvHeads) * headSize;
  const inLayer = projections.filter((projection) => projection.layer === layer);
  const spans = (role: ProjectionRole, size: number, offset = 0): Span[] =>
    inLayer.filter((projection) => projection.role === role).map(({ name }) => ({ projection: name, offset, size }));
  const keysStart = heads * headSize;
  return [
    {
      kind: "heads",
      layer,
      groups: kvHeads,
      outputs: [
        ...spans("query", queriesPerGroup),
        ...spans("key", headSize),
        ...spans("value", headSize),
        ...(isInterleaved
          ? spans("query_key_value", 3 * headSize)
          : [
              // A fused projection gives queries, keys and values one after the other.
              ...spans("query_key_value", queriesPerGroup),
              ...spans("query_key_value", headSize, keysStart),
              ...spans("query_key_value", headSize, keysStart + kvHeads * headSize),
            ]),
      ],
      inputs: spans("attention_output", queriesPerGroup),
    },
    {
      kind: "neurons",
      layer,
      groups: neurons,
      outputs: [...spans("feed_forward_in", 1), ...(isGateFused ? spans("feed_forward_in", 1, neurons) : [])],
      inputs: spans("feed_forward_out", 1),
    },
  ];
}
