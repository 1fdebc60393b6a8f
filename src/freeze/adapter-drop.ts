import { ConfigError } from "../base/errors";
import { Random } from "../base/random";
import type { FreezePolicy } from "./policy";

export interface AdapterDropOptions {
  /** The lowest n layers lose their adapter in a step, n uniform from 0 to this. Default 10, at most all but one. */
  readonly most?: number;
  /** Default 0. */
  readonly seed?: number;
}

/**
 * Robust AdapterDrop (Rücklé et al. 2021, section 3.1): every step leaves the adapters of the lowest n layers out, n drawn
 * anew; they neither act nor learn in it.
 *
 * Saves time, since backward ends at layer n, and no memory: the plan without drops still needs its buffers.
 * @throws ConfigError for a number of layers that is not a whole number from 0.
 */
export function adapterDrop({ most = 10, seed = 0 }: AdapterDropOptions = {}): FreezePolicy {
  if (!Number.isInteger(most) || most < 0) {
    throw new ConfigError(`AdapterDrop may drop ${most} layers.`, "Give a whole number from 0.");
  }
  return {
    name: "adapter_drop",
    isDue: () => false,
    decide: () => Promise.resolve([]),
    dropped({ step }, layers) {
      const count = new Random(seed, step).below(Math.min(most, layers - 1) + 1);
      return Array.from({ length: count }, (_, layer) => layer);
    },
    record: () => ({ most, seed }),
    settings: { most, seed },
  };
}
