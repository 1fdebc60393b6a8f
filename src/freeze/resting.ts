import { checkOptions, WHOLE_FROM_1 } from "./check-options";
import type { LayerDropPolicy } from "./policy";

export interface RestingOptions {
  /** Number of the lowest layers that rest; at least one layer always learns. Default all but the uppermost sixth. */
  readonly layers?: number;
  /** Every so many steps, from the first one on, all layers learn. Default 2. */
  readonly every?: number;
}

/**
 * The adapters of all but the uppermost layers rest in every second step: they act, and do not learn. A policy of safetape's own.
 * SAFE freezes layers for good, the lowest first, after they have learned in the first part of a run; here they learn to its end,
 * less often. A step in which they rest needs as little as after a freeze: neither the activations nor the backward pass below the
 * lowest adapter that learns.
 *
 * A step in which all learn is divided into parts that fit into the memory of the others, so that the peak falls as well. A
 * tensor's moments and its count of updates are those of the steps in which it learned.
 * @throws ConfigError for a number that is not a whole number from 1.
 */
export function resting({ layers: count, every = 2 }: RestingOptions = {}): LayerDropPolicy {
  checkOptions("resting", { layers: count, every }, { layers: WHOLE_FROM_1, every: WHOLE_FROM_1 });
  const lowest = (layers: number): number[] => {
    const length = Math.min(count ?? layers - Math.ceil(layers / 6), layers - 1);
    return Array.from({ length }, (_, layer) => layer);
  };
  return {
    kind: "layer_dropping",
    adaptersAct: true,
    name: "resting",
    settings: { ...(count !== undefined && { layers: count }), every },
    variants: (layers) => (lowest(layers).length > 0 ? [lowest(layers)] : []),
    start: ({ layers }) => ({ dropped: ({ step }) => (step % every === 0 ? [] : lowest(layers)) }),
  };
}
