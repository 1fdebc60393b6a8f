import type { Batch } from "../data/batch";
import { Executor } from "../run/executor";
import { Merging } from "./merging";
import type { TrainerOptions } from "./options";
import { withMemoryRemedy } from "./memory-remedy";
import { preflight } from "./preflight";
import type { Preflight } from "./preflight";
import { PrefixCache } from "./prefix-cache";
import { TrainState } from "./state";
import type { PrefixParts } from "./step-prefix";
import { withStructuralMasks } from "./structures";
import { Updates } from "./updates";

/** What a run consists of. */
export interface TrainerRun extends PrefixParts, Pick<Preflight, "needs"> {
  readonly updates: Updates;
  readonly first: Batch;
}

/** Plans a run, checks its budget, allocates; throws as `Trainer.create` does. */
export async function openRun(given: TrainerOptions): Promise<TrainerRun> {
  const options = withStructuralMasks(given);
  const { model: loaded, adapter, seed = 0 } = options;
  const cache = PrefixCache.of(options.prefixCache, loaded.model);
  const { book, first, merges, settings, statistics, live, plannedBytes, needs } = preflight(options);
  const remedy = { options, book, needs };
  const state = await withMemoryRemedy(remedy, () => TrainState.create(loaded, adapter, seed, { live, statistics }));
  const executor = new Executor(loaded.engine.device, plannedBytes);
  try {
    if (options.initial) state.restore(options.initial);
    const merging = merges && new Merging(merges, loaded, adapter, state);
    const updates = Updates.of(options, state, settings, statistics);
    await withMemoryRemedy(remedy, () => executor.hold([...book.plans, ...updates.plans]));
    await executor.compile();
    return { ...remedy, state, executor, updates, first, cache, merging };
  } catch (error) {
    executor.dispose();
    state.dispose();
    cache?.dispose();
    throw error;
  }
}
