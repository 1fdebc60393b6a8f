import { finishCka } from "../../ops/cka";
import { checkComparable, comparisonOutput, comparisonPlan } from "../plans/comparison-trace";
import { batchInputs } from "../plans/inputs";
import type { FreezeContextParts } from "./context";

/**
 * SAFE's importance of every layer's adapter, by layer (Son et al. 2024, eq. 2 and 3): 1 - CKA between the activations of
 * the layer with the adapter and those of the original model, on the same probe batch and without dropout. Rows are the
 * tokens that are not padding.
 * @param center whether to subtract column means before CKA.
 * @throws ConfigError as `checkComparable`.
 */
export async function importance(
  { loaded, adapter, state, executor, probe }: FreezeContextParts,
  center: boolean,
): Promise<ReadonlyMap<number, number>> {
  checkComparable(adapter);
  const { model, engine } = loaded;
  const comparison = comparisonPlan(loaded, adapter, probe, engine.device.limits, { center });
  const inputs = { ...batchInputs(model, probe), probe_mask: probe.attentionMask };
  const sums = await executor.beside([comparison], () => executor.run(comparison, state, inputs));
  return new Map(
    Array.from({ length: model.layers }, (_, layer) => [layer, 1 - finishCka(sums.get(comparisonOutput(layer))!)]),
  );
}
