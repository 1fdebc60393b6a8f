import { ConfigError } from "../base/errors";
import type { FreezePolicy } from "./policy";

/**
 * Only the adapters of the uppermost layers learn, from the start (Zhang et al. 2023; SAFE's baseline takes six layers).
 *
 * Saves from the first step what SAFE saves at its end: gradients, moments and all activations below the lowest live
 * adapter, and the backward pass there.
 * @throws ConfigError for a number of layers that is not a whole number from 1. A run in which no layer lies below them is
 * refused.
 */
export function upperLayers(count = 6): FreezePolicy {
  if (!Number.isInteger(count) || count < 1) {
    throw new ConfigError(`${count} upper layers are to learn.`, "Give a whole number from 1.");
  }
  return {
    kind: "freezing",
    name: "upper_layers",
    settings: { count },
    mayFreeze: ({ layer }, layers) => typeof layer === "number" && layer < layers - count,
    start: ({ layers }) => ({
      isDue: ({ step }) => step === 0,
      decide: ({ live }) =>
        Promise.resolve([...live].filter(([layer]) => layer < layers - count).flatMap(([, names]) => names)),
    }),
  };
}
