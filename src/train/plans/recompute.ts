import { ConfigError, MemoryBudgetError } from "../../base/errors";
import { feedForwardSection, layerSection } from "../../model/forward";
import type { Model } from "../../model/model";
import type { Recompute } from "../options";

/** @throws ConfigError for a value that is not a `Recompute`. */
export function checkRecompute(recompute: Recompute): void {
  if (recompute === "none" || recompute === "mlp" || recompute === "layers" || recompute > 0) return;
  throw new ConfigError(
    `memory.recompute is ${recompute}.`,
    'Give "none", "mlp", "layers", or a positive number of bytes.',
  );
}

/**
 * The sections to recompute. For a number of bytes: the fewest that fit, feed-forwards before complete layers, since they
 * cost less for each byte that they save, and lower layers before upper ones, since they freeze first.
 * @param needs bytes of the run with some sections recomputed.
 * @throws MemoryBudgetError with the smallest number of bytes that is accepted.
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
  const bytesWithNone = needs(first(0));
  if (bytesWithNone <= recompute) return first(0);
  const bytesWithAll = needs(first(order.length));
  if (bytesWithAll > recompute) {
    const neededBytes = Math.min(bytesWithNone, bytesWithAll);
    throw new MemoryBudgetError(
      `With every layer recomputed this run still needs ${neededBytes} bytes; the budget is ${recompute}.`,
      `Give at least ${neededBytes} bytes, or use a smaller batch or shorter texts.`,
      neededBytes,
      recompute,
    );
  }
  let [tooFew, enough] = [0, order.length];
  while (enough - tooFew > 1) {
    const middle = Math.floor((tooFew + enough) / 2);
    if (needs(first(middle)) <= recompute) enough = middle;
    else tooFew = middle;
  }
  return first(enough);
}
