import type { Batch } from "../data/batch";
import { Executor } from "../run/executor";
import { Merging } from "./merging";
import type { TrainerOptions } from "./options";
import { preflight } from "./preflight";
import { PrefixCache } from "./prefix-cache";
import { TrainState } from "./state";
import type { PrefixParts } from "./step-prefix";
import { withStructuralMasks } from "./structures";
import { Updates } from "./updates";

/** What a run consists of. */
export interface TrainerRun extends PrefixParts {
  readonly updates: Updates;
  readonly first: Batch;
}

/** Plans a run, checks its budget, allocates; throws as `Trainer.create` does. */
export async function openRun(given: TrainerOptions): Promise<TrainerRun> {
  const options = withStructuralMasks(given);
  const { model: loaded, adapter, seed = 0 } = options;
  const cache = PrefixCache.of(options.prefixCache, loaded.model);
  const { book, first, merges, settings, statistics, live, plannedBytes } = preflight(options);
  const state = await TrainState.create(loaded, adapter, seed, { live, statistics });
  const executor = new Executor(loaded.engine.device, plannedBytes);
  try {
    if (options.initial) state.restore(options.initial);
    const merging = merges && new Merging(merges, loaded, adapter, state);
    const updates = Updates.of(options, state, settings, statistics);
    await executor.hold([...book.plans, ...updates.plans]);
    await executor.compile();
    // Whoever scores this run finds its probe here.
    const { probe = first } = options;
    return { options: { ...options, probe }, state, executor, book, updates, first, cache, merging };
  } catch (error) {
    executor.dispose();
    state.dispose();
    cache?.dispose();
    throw error;
  }
}
