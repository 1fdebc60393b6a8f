import { Random } from "../base/random";
import { checkOptions, WHOLE_FROM_0 } from "./check-options";
import type { LayerDropPolicy } from "./policy";

export interface AdapterDropOptions {
  /** Most layers that lose their adapter in a step; at least one layer always keeps its own. Default 10. */
  readonly most?: number;
  /** Seed of the numbers drawn. Default 0. */
  readonly seed?: number;
}

/**
 * Robust AdapterDrop (Rücklé et al. 2021, section 3.1): every step leaves out the adapters of the lowest n layers, with n
 * drawn uniformly from 0 to `most`.
 *
 * Saves time, since backward ends at layer n, but no memory: the plan without drops still needs its buffers.
 * @throws ConfigError for a number that is not a whole number from 0.
 */
export function adapterDrop({ most = 10, seed = 0 }: AdapterDropOptions = {}): LayerDropPolicy {
  checkOptions("adapter_drop", { most, seed }, { most: WHOLE_FROM_0, seed: WHOLE_FROM_0 });
  const lowest = (count: number): number[] => Array.from({ length: count }, (_, layer) => layer);
  const limit = (layers: number): number => Math.min(most, layers - 1);
  return {
    kind: "layer_dropping",
    name: "adapter_drop",
    settings: { most, seed },
    variants: (layers) => lowest(limit(layers)).map((layer) => lowest(layer + 1)),
    start: ({ layers }) => ({ dropped: ({ step }) => lowest(new Random(seed, step).below(limit(layers) + 1)) }),
  };
}
