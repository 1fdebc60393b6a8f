import type { FreezeContext, Progress } from "../../freeze/policy";
import type { Bytes } from "../../gpu/ledger";
import { freezeContext } from "../freezing/context";
import type { FreezingParts } from "../freezing/context";
import type { RunResources } from "./resources";
import { runLength } from "../estimate/run-length";
import { statisticsOf } from "../plans/statistics-plan";

/** What a run's policy sees when it is asked. */
export function policyContext(
  { options, state, executor, book, updates, merging, first }: RunResources,
  progress: Progress,
  settings: FreezingParts["settings"],
  onScores: NonNullable<FreezingParts["onScores"]>,
): FreezeContext {
  const { model: loaded, adapter, probe = first } = options;
  return freezeContext({
    loaded,
    adapter,
    state,
    executor,
    probe,
    progress,
    book,
    merging,
    settings,
    onScores,
    lossSum: updates.lossSum,
    statistics: statisticsOf(options),
  });
}

/** Live bytes, and FLOPs of an optimizer step with the largest batch. */
export interface Footprint {
  readonly bytes: Bytes;
  readonly flops: number;
}

/** How a run stands now. */
export function footprintOf({ options, book, updates }: RunResources): Footprint {
  const { accumulate } = runLength(options);
  return { bytes: options.model.engine.ledger.live, flops: accumulate * book.batchFlops + updates.flops };
}
