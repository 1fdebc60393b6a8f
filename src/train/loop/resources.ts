import type { AdapterState } from "../../adapter/adapter";
import { ConfigError } from "../../base/errors";
import type { Batch } from "../../data/batch";
import { never } from "../../freeze/never";
import { startPolicy } from "../../freeze/policy";
import type { ActivePolicy } from "../../freeze/policy";
import { Executor } from "../../run/executor";
import { withMemoryRemedy } from "../estimate/memory-remedy";
import { preflight } from "../estimate/preflight";
import type { Preflight } from "../estimate/preflight";
import { runLength } from "../estimate/run-length";
import { adapterRun } from "../freezing/adapter-run";
import type { Compaction, CompactionParts } from "../freezing/compaction";
import type { SavedPruner, StructuralPruner } from "../freezing/structural-pruner";
import type { TrainerOptions } from "../options";
import type { PlanBook } from "../plans/plan-book";
import { positionIn } from "../step/batch-queue";
import type { DataPosition } from "../step/batch-queue";
import { heldPlans, OptimizerPlans } from "../step/optimizer-plans";
import type { OuterOptimizer } from "../step/outer-optimizer";
import type { PrefixCache } from "../step/prefix/cache";
import type { PrefixParts } from "../step/prefix/step-prefix";
import { TrainableTensors } from "../tensors/trainable-tensors";
import type { WorldMember } from "../world";
import { withScheduledRate } from "./learning-rate";

/** What a run consists of: its options, tensors, plans, and the executor that holds the plans' buffers. */
export interface RunResources extends PrefixParts, Pick<Preflight, "needs"> {
  readonly updates: OptimizerPlans;
  /** Which heads and neurons are masked or cut; undefined for a policy that prunes none. */
  readonly pruner: StructuralPruner | undefined;
  /** Cuts masked heads and neurons out of the tensors; undefined as `pruner`. */
  readonly compaction: Compaction | undefined;
  /** The policy with its state in this run. */
  readonly policy: ActivePolicy;
  /** State of the adapter in this run; undefined for an adapter without any. */
  readonly adapterState: AdapterState | undefined;
  /** The first batch of the data, on which policies compute scores by default. */
  readonly first: Batch;
  /** Position of the data before that batch. */
  readonly start: DataPosition;
  /** This device's place among others that train the run with it; undefined where it is alone. */
  readonly world?: WorldMember | undefined;
  /** Exchanges what local steps have changed; undefined where gradients are exchanged in every step. */
  readonly local?: OuterOptimizer | undefined;
  /** Lets steps run as many rows of a batch as this device has; undefined where it is alone. */
  readonly limit?: ((book: PlanBook) => void) | undefined;
}

/** What is known of a run before it is planned, where its first batch was drawn already. */
export type RunStart = Pick<RunResources, "first" | "start" | "world" | "local" | "limit">;

/** State that a run continues from. Implemented by checkpoints; each method is called once, in this order. */
export interface RunOrigin {
  /** Position of the data before the first batch of the run. */
  readonly start: DataPosition;
  /** @throws ConfigError where the state belongs to a different run. */
  check(run: Pick<RunResources, "options" | "first" | "start">): Promise<void>;
  /** Plans for the shapes and live tensors of the state. @throws FileFormatError for tensors that this run does not train. */
  restorePlans(preflight: Preflight, layers: number): void;
  /** Heads and neurons that were masked or cut. */
  readonly structures: SavedPruner;
  /** Names of tensors that still learned. */
  readonly live: ReadonlySet<string>;
  /** @throws FileFormatError for a missing tensor or one of another size. */
  restoreTensors(tensors: TrainableTensors, local: OuterOptimizer | undefined): Promise<void>;
  /** Restores what the optimizer, the policy and the adapter have counted. @throws FileFormatError */
  restoreCounts(run: Pick<RunResources, "updates" | "policy" | "adapterState">): void;
}

/**
 * Plans a run, checks its budget and allocates its memory. Where anything throws, GPU memory is as it was.
 * @param origin the state that the run continues from; default the start.
 * @param first what is known of the run, where its first batch was drawn already.
 * @throws as `Trainer.create`.
 */
export async function openRun(
  givenOptions: TrainerOptions,
  origin?: RunOrigin,
  first?: RunStart,
): Promise<RunResources> {
  const scheduledOptions = withScheduledRate(givenOptions);
  const pruning = await openPruning(scheduledOptions);
  const maskedOptions = pruning?.options ?? scheduledOptions;
  const { model: loaded, adapter, data, seed = 0 } = maskedOptions;
  if (loaded.isCut) {
    throw new ConfigError(
      `A run that is not over has cut heads or neurons out of ${loaded.source}.`,
      "Dispose of its trainer, which puts them back, or load the model again.",
    );
  }
  await loaded.updateFragileNorms();
  const start = first?.start ?? origin?.start ?? positionIn(data);
  if (!first && origin && start.state !== undefined) data.resume?.(start.state);
  const flight = preflight(maskedOptions, first?.first ?? (() => data.next()), pruning?.plans);
  const { book, planned, merges, side, live, bytesForRun, needs } = flight;
  const options = { ...maskedOptions, probe: maskedOptions.probe ?? flight.first };
  if (!first) await origin?.check({ options, first: flight.first, start });
  first?.limit?.(book);
  origin?.restorePlans(flight, loaded.model.layers);
  loaded.isTrained ||= adapter.trainsInPlace ?? false;
  const frozen = origin ? [...live.keys()].filter((name) => !origin.live.has(name)) : [];
  // Loaded when it is needed: few runs merge what freezes.
  const Merging = merges && (await import("../freezing/merging")).Merging;
  const remedy = { options, book, needs };
  const state = await withMemoryRemedy(remedy, () =>
    TrainableTensors.create(loaded, adapter, seed, {
      live,
      frozen,
      stillComputed: book.live,
      statistics: side.statistics,
      optimizer: side.optimizer,
      isGiven: (name) => origin !== undefined || (options.initial?.has(name) ?? false),
    }),
  );
  const executor = new Executor(loaded.engine.device, () => bytesForRun() - state.bytes);
  const merging = Merging && new Merging(merges, loaded, adapter, state);
  let cache: PrefixCache | undefined;
  const { totalSteps, stepsPerEpoch } = runLength(options);
  const policy = startPolicy(options.policy ?? never(), { layers: loaded.model.layers, totalSteps, stepsPerEpoch });
  const { pruner, compaction } = pruning?.start(policy, { loaded, state, planned, book }) ?? {};
  try {
    cache = await openPrefixCache(options);
    if (origin && pruner && compaction) {
      pruner.restore(origin.structures);
      compaction.plan();
      await withMemoryRemedy(remedy, () => compaction.run());
    }
    if (origin) await origin.restoreTensors(state, first?.local);
    else if (options.initial) state.restore(options.initial);
    const adapterState = adapter.start?.(adapterRun(state, loaded.model, totalSteps));
    const updates = new OptimizerPlans(state, side, pruner, adapterState);
    origin?.restoreCounts({ updates, policy, adapterState });
    await merging?.mergeFrozen();
    await withMemoryRemedy(remedy, () => executor.hold(heldPlans({ book, updates })));
    await executor.compile();
    return {
      options,
      book,
      needs,
      state,
      executor,
      updates,
      pruner,
      compaction,
      policy,
      adapterState,
      first: flight.first,
      start,
      world: first?.world,
      local: first?.local,
      limit: first?.limit,
      cache,
      merging,
    };
  } catch (error) {
    merging?.dispose();
    executor.dispose();
    state.dispose();
    compaction?.restore();
    cache?.dispose();
    throw error;
  }
}

/** What a run with a policy that prunes structures has in addition. */
async function openPruning(options: TrainerOptions) {
  const { policy } = options;
  if (policy?.kind !== "structure_pruning") return undefined;
  // Loaded when it is needed: few runs prune the model.
  const { StructuralPruner, withStructuralMasks } = await import("../freezing/structural-pruner");
  const { Compaction } = await import("../freezing/compaction");
  const { pruningPlans } = await import("../plans/importance-plan");
  return {
    options: withStructuralMasks(options, policy),
    plans: pruningPlans(policy),
    start(active: ActivePolicy, parts: Omit<CompactionParts, "pruner">) {
      if (active.kind !== "structure_pruning") return undefined;
      const pruner = new StructuralPruner(active, parts.loaded, parts.state);
      return { pruner, compaction: new Compaction({ ...parts, pruner }) };
    },
  };
}

async function openPrefixCache({ prefixCache, model }: TrainerOptions): Promise<PrefixCache | undefined> {
  if (!prefixCache) return undefined;
  // Loaded when it is needed: few runs cache their prefix.
  const { PrefixCache } = await import("../step/prefix/cache");
  return new PrefixCache(prefixCache === true ? {} : prefixCache, model.model);
}
