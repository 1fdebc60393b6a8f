import type { AdapterState } from "../../adapter/adapter";
import type { Batch } from "../../data/batch";
import { never } from "../../freeze/never";
import { startPolicy } from "../../freeze/policy";
import type { ActivePolicy } from "../../freeze/policy";
import { Executor } from "../../run/executor";
import type { FoundRun } from "../checkpoint/directory";
import { Merging } from "../freezing/merging";
import { adapterRun } from "../freezing/adapter-run";
import type { TrainerOptions } from "../options";
import { withMemoryRemedy } from "../estimate/memory-remedy";
import { runLength } from "../estimate/run-length";
import { preflight } from "../estimate/preflight";
import type { Preflight } from "../estimate/preflight";
import { PrefixCache } from "../step/prefix/cache";
import { checkRun, readKept } from "../checkpoint/record";
import type { RunCheckpoint } from "../checkpoint/record";
import { checkIdentity, identityOf } from "../checkpoint/identity";
import type { IdentityParts } from "../checkpoint/identity";
import { warnOfOtherGpu } from "../checkpoint/resume";
import { TrainableTensors } from "../tensors/trainable-tensors";
import type { PrefixParts } from "../step/prefix/step-prefix";
import { withStructuralMasks } from "../freezing/structural-pruner";
import { positionIn } from "../step/batch-queue";
import type { DataPosition } from "../step/batch-queue";
import { OptimizerPlans } from "../step/optimizer-plans";

/** What a run consists of. */
export interface RunResources extends PrefixParts, Pick<Preflight, "needs"> {
  readonly updates: OptimizerPlans;
  /** The policy with its state in this run. */
  readonly policy: ActivePolicy;
  /** State of the adapter in this run, where it has any. */
  readonly adapterState: AdapterState | undefined;
  /** The data's first batch, on which policies probe, and where the data were before it. */
  readonly first: Batch;
  readonly start: DataPosition;
}

/** What a run goes on from. */
export interface Beginning {
  readonly from?: FoundRun | undefined;
  /** The data's first batch where it is known; else it is drawn. */
  readonly known?: Pick<RunResources, "first" | "start">;
}

/** Plans a run, checks its budget, allocates; goes on from a state where there is one. Throws as `Trainer.create` does. */
export async function openRun(given: TrainerOptions, { from: found, known }: Beginning = {}): Promise<RunResources> {
  const options = withStructuralMasks(given);
  const { model: loaded, adapter, data, seed = 0 } = options;
  const from = found?.state;
  const start = known?.start ?? from?.saved.start ?? positionIn(data);
  if (!known && from && start.state !== undefined) data.resume?.(start.state);
  const cache = PrefixCache.of(options.prefixCache, loaded.model);
  const before = preflight(options, known?.first ?? (() => data.next()));
  const { book, first, merges, settings, statistics, live, plannedBytes, needs } = before;
  const remedy = { options, book, needs };
  // Whoever scores this run finds its probe here.
  const asked = { ...options, probe: options.probe ?? first };
  if (found && !known) await checkOwn({ options: asked, first, start }, found);
  if (from) resumePlans(before, from, loaded.model.layers);
  const frozen = from && [...live.keys()].filter((name) => !from.saved.live.includes(name));
  const learning = { live, statistics, ...(frozen && { frozen }) };
  const state = await withMemoryRemedy(remedy, () => TrainableTensors.create(loaded, adapter, seed, learning));
  const executor = new Executor(loaded.engine.device, plannedBytes);
  const merging = merges && new Merging(merges, loaded, adapter, state);
  try {
    if (from) await state.load(from.saved.masked, (name) => readKept(from, name, specOf(state, name)));
    else if (options.initial) state.restore(options.initial);
    const { totalSteps, stepsPerEpoch } = runLength(options);
    const policy = startPolicy(options.policy ?? never(), { layers: loaded.model.layers, totalSteps, stepsPerEpoch });
    const adapterState = adapter.start?.(adapterRun(state, loaded.model, totalSteps));
    const updates = OptimizerPlans.of(options, state, settings, statistics, { policy, adapterState });
    if (from) resumeFindings({ updates, policy, adapterState }, from);
    await merging?.follow();
    await withMemoryRemedy(remedy, () => executor.hold([...book.plans, ...updates.plans]));
    await executor.compile();
    return { ...remedy, options: asked, state, executor, updates, policy, adapterState, first, start, cache, merging };
  } catch (error) {
    merging?.dispose();
    executor.dispose();
    state.dispose();
    cache?.dispose();
    throw error;
  }
}

/** @throws ConfigError for a checkpoint of another run, naming what differs. */
async function checkOwn(parts: IdentityParts, found: FoundRun): Promise<void> {
  checkIdentity(await identityOf(parts), found.state.saved.identity, found.file);
  warnOfOtherGpu(parts.options, found);
}

const specOf = (state: TrainableTensors, name: string) => ({ shape: state.tensor(name).shape, dtype: "f32" as const });

/** Plans for what is still live, with room for every shape that came. @throws FileFormatError */
function resumePlans({ book, live, merges }: Preflight, from: RunCheckpoint, layers: number): void {
  checkRun(from, live, layers);
  const { shapes, variants, isMerging } = from.saved;
  shapes.forEach((shape) => book.addShape(shape));
  variants.forEach((dropped) => book.addVariant(dropped));
  if (merges) merges.isOn = isMerging;
  book.freezeTo(new Set(from.saved.live));
}

/** What updates, policy and adapter have counted and found. @throws FileFormatError */
function resumeFindings(
  { updates, policy, adapterState }: Pick<RunResources, "updates" | "policy" | "adapterState">,
  { saved }: RunCheckpoint,
): void {
  saved.variants.forEach((dropped) => updates.addVariant(dropped));
  updates.restore(saved.updates);
  if (saved.policy !== undefined) policy.state.restore?.(saved.policy);
  if (saved.adapter !== undefined) adapterState?.restore?.(saved.adapter);
}
