import { checkComparable, comparisonPlans, layerSimilarities } from "../plans/comparison-trace";
import type { FreezeContextParts } from "./context";

/**
 * SAFE's importance of every layer's adapter, by layer (Son et al. 2024, eq. 2 and 3): 1 - CKA between the activations of
 * the layer with the adapter and those of the reference, on the same probe and without dropout. Rows are the tokens that are
 * not padding; the sums of several batches are combined as in `minibatchCka`.
 * @param center whether to subtract column means before CKA.
 * @throws ConfigError as `checkComparable`.
 */
export async function importance(
  { loaded, adapter, state, executor, probe, reference }: FreezeContextParts,
  center: boolean,
): Promise<ReadonlyMap<number, number>> {
  checkComparable(adapter, reference);
  const { model, engine } = loaded;
  const plans = comparisonPlans(loaded, adapter, probe, engine.device.limits, { center, reference });
  const similarities = await executor.beside([], (hold) =>
    layerSimilarities(model, adapter, probe, async (batch, inputs) => {
      const comparison = plans.get(batch)!;
      await hold(comparison);
      return executor.run(comparison, state, inputs);
    }),
  );
  // CKA is at most 1; rounding may give more, and a score below 0 would be below the threshold of a warm-up.
  return new Map(similarities.map((similarity, layer) => [layer, Math.max(0, 1 - similarity)]));
}
