import { finishCka } from "../../ops/cka";
import { checkComparable, comparisonOutput, comparisonPlan } from "../plans/comparison-trace";
import { batchInputs } from "../plans/inputs";
import type { FreezingParts } from "./context";

/**
 * SAFE's importance (eq. 2 and 3) of every layer's adapter: 1 - CKA between the layer's activation with the adapter and
 * that of the original model on the same probe batch, both without dropout; rows are the tokens that are not padding.
 * @throws ConfigError for an adapter that trains the checkpoint in place, since there is no original to compare with.
 */
export async function importance(
  { loaded, adapter, state, executor, probe }: FreezingParts,
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
