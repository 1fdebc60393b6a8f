import type { Batch } from "../../data/batch";
import type { Plan } from "../../tape/plan";
import { checkComparable, comparisonPlans, layerSimilarities, layerSums } from "../plans/comparison-trace";
import type { LayerSums } from "../plans/comparison-trace";
import type { FreezeContextParts } from "./context";

/**
 * SAFE's importance of every layer's adapter, by layer (Son et al. 2024, eq. 2 and 3): 1 - CKA between the activations of
 * the layer with the adapter and those of the reference, on the same probe and without dropout. Rows are the tokens that are
 * not padding; the sums of several batches are combined as in `minibatchCka`.
 * @param center whether to subtract column means before CKA.
 * @throws ConfigError as `checkComparable`.
 */
export async function importance(parts: FreezeContextParts, center: boolean): Promise<ReadonlyMap<number, number>> {
  const given = parts.probeSums;
  return importanceOf(given?.center === center ? given.sums : await probeSums(parts, center));
}

/**
 * The CKA sums of every layer, for each of some batches of the probe. The run's merged LoRAs must be out of the weights.
 * @param batches default all.
 * @param plans the plan of each of them, where it is made already.
 * @throws ConfigError as `checkComparable`.
 */
export async function probeSums(
  { loaded, adapter, state, executor, probe, reference }: FreezeContextParts,
  center: boolean,
  batches: readonly Batch[] = probe,
  plans?: ReadonlyMap<Batch, Plan>,
): Promise<LayerSums[][]> {
  checkComparable(adapter, reference);
  const { model, engine } = loaded;
  const comparisons = plans ?? comparisonPlans(loaded, adapter, batches, engine.device.limits, { center, reference });
  return executor.beside([], (hold) =>
    layerSums(model, adapter, batches, async (batch, inputs) => {
      const comparison = comparisons.get(batch)!;
      await hold(comparison);
      return executor.run(comparison, state, inputs);
    }),
  );
}

/** CKA is at most 1; rounding may give more, and a score below 0 would be below the threshold of a warm-up. */
function importanceOf(batches: readonly (readonly LayerSums[])[]): ReadonlyMap<number, number> {
  return new Map(layerSimilarities(batches).map((similarity, layer) => [layer, Math.max(0, 1 - similarity)]));
}
