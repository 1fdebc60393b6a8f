import { ConfigError, MemoryBudgetError } from "../../base/errors";
import { feedForwardSection } from "../../model/forward";
import type { Model } from "../../model/model";
import type { Recompute } from "../options";
import { layerSection } from "./trace";

/** @throws ConfigError for anything else. */
export function checkRecompute(recompute: Recompute): void {
  if (["none", "mlp", "layers"].includes(recompute as string)) return;
  if (typeof recompute === "number" && recompute > 0) return;
  throw new ConfigError(`recompute is ${recompute}.`, 'Give "none", "mlp", "layers", or bytes.');
}

/**
 * The sections to run again. For a number of bytes the cheapest that fit, feed-forwards before whole layers (they cost less
 * for each byte that they save), lower layers before upper ones (they freeze first).
 * @param needs bytes of the run with some sections run again.
 * @throws MemoryBudgetError with the smallest number that would do.
 */
export function recomputedSections(
  model: Model,
  recompute: Recompute,
  needs: (sections: ReadonlySet<string>) => number,
): ReadonlySet<string> {
  const layers = Array.from({ length: model.layers }, (_, layer) => layer);
  if (recompute === "none") return new Set();
  if (recompute === "mlp") return new Set(layers.map(feedForwardSection));
  if (recompute === "layers") return new Set(layers.map(layerSection));
  const order = [...layers.map(feedForwardSection), ...layers.map(layerSection)];
  const first = (count: number): ReadonlySet<string> => new Set(order.slice(0, count));
  const needsNone = needs(first(0));
  if (needsNone <= recompute) return first(0);
  const needsAll = needs(first(order.length));
  if (needsAll > recompute) {
    const least = Math.min(needsNone, needsAll);
    throw new MemoryBudgetError(
      `With every layer computed twice this run still needs ${least} bytes; the budget is ${recompute}.`,
      `Give at least ${least} bytes, or use a smaller batch or shorter texts.`,
      least,
      recompute,
    );
  }
  let [low, high] = [0, order.length];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (needs(first(middle)) <= recompute) high = middle;
    else low = middle;
  }
  return first(high);
}
