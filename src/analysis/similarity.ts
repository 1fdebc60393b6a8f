import { ConfigError } from "../base/errors";
import type { Batch } from "../data/batch";
import { Executor } from "../run/executor";
import type { TensorStore } from "../run/store";
import type { Plan } from "../tape/plan";
import { Tensor } from "../tensor";
import { fixedSpecs, trainableSpecs } from "../train/tensors/specs";
import { TrainableTensors } from "../train/tensors/trainable-tensors";
import {
  checkComparable,
  comparisonPlans,
  layerSimilarities,
  layerSums,
  probeBatches,
} from "../train/plans/comparison-trace";
import { finalName } from "../train/tensors/names";
import type { Trainer } from "../train/trainer";
import type { AnalysisControl, NamedTensors, Subject } from "./subject";

/** A copy of an adapter's tensors at some step. */
export interface Snapshot {
  /** Optimizer steps done. */
  readonly step: number;
  readonly tensors: NamedTensors;
}

export interface CompareOptions extends AnalysisControl {
  /** The texts or images whose tokens are the rows of CKA, in one batch or several. Padding does not count. */
  readonly probe: Batch | readonly Batch[];
  /** Whether to subtract column means, as the definition of CKA does. Default true. */
  readonly center?: boolean;
}

/** Similarity (CKA, from 0 to 1) of the layers' outputs at some step, by layer. */
export interface LayerSimilarity {
  readonly step: number;
  /** Similarity to the output of the model without the adapter. */
  readonly original: readonly number[];
  /** Similarity to the output with the last snapshot. */
  readonly final: readonly number[];
}

/**
 * Linear CKA (Kornblith et al. 2019, equation 5) of every layer's output, without dropout, for several snapshots of an
 * adapter: with the output of the original model and with that of the last snapshot (SAFE, figure 3). Each snapshot takes
 * four forward passes.
 * @throws ConfigError without snapshots, and for adapters that change the checkpoint in place or lengthen texts.
 */
export async function compareLayers(
  { model: loaded, adapter }: Pick<Subject, "model" | "adapter">,
  snapshots: readonly Snapshot[],
  { probe, center = true, onProgress, signal }: CompareOptions,
): Promise<LayerSimilarity[]> {
  const last = snapshots.at(-1);
  if (!last) throw new ConfigError("There are no snapshots to compare.", "Take at least one before the first step.");
  checkComparable(adapter);
  const { model, engine } = loaded;
  const adapterTensors = new Set([...fixedSpecs(model, adapter).keys(), ...trainableSpecs(model, adapter).keys()]);
  const rename = (name: string): string => (adapterTensors.has(name) ? finalName(name) : name);
  const { limits } = engine.device;
  const batches = probeBatches(probe);
  const withOriginal = comparisonPlans(loaded, adapter, batches, limits, { center });
  const withFinal = comparisonPlans(loaded, adapter, batches, limits, { center, rename });
  using executor = new Executor(engine.device);
  using store = await SnapshotPair.create({ model: loaded, adapter, tensors: last.tensors });
  await executor.hold([...new Set([...withOriginal.values(), ...withFinal.values()])]);
  const compare = async (plans: ReadonlyMap<Batch, Plan>): Promise<number[]> =>
    layerSimilarities(
      await layerSums(model, adapter, batches, (batch, inputs) => executor.run(plans.get(batch)!, store, inputs)),
    );
  const similarities: LayerSimilarity[] = [];
  for (const { step, tensors } of snapshots) {
    signal?.throwIfAborted();
    store.state.restore(tensors);
    similarities.push({ step, original: await compare(withOriginal), final: await compare(withFinal) });
    onProgress?.(similarities.length, snapshots.length);
  }
  return similarities;
}

/** Two snapshots on the GPU: one that `state` replaces, and the last one, whose tensors have other names. */
class SnapshotPair implements TensorStore {
  readonly #finals = new Map<string, Tensor>();

  private constructor(readonly state: TrainableTensors) {}

  static async create({ model: loaded, adapter, tensors }: Subject): Promise<SnapshotPair> {
    const { device } = loaded.engine;
    const pair = new SnapshotPair(await TrainableTensors.create(loaded, adapter, 0, { live: new Map() }));
    return device.pool.checked("the tensors of the last snapshot", () => {
      for (const [name, { data, shape }] of tensors) {
        pair.#finals.set(finalName(name), Tensor.from(device, data, shape, "state"));
      }
      return pair;
    });
  }

  lease(name: string) {
    return this.#finals.get(name)?.lease ?? this.state.lease(name);
  }

  [Symbol.dispose](): void {
    for (const tensor of this.#finals.values()) tensor.dispose();
    this.state.dispose();
  }
}

export interface SimilarityOptions extends AnalysisControl {
  /** Steps between snapshots. Default: one epoch. There is also one before the first step and one after the last. */
  readonly every?: number;
  /** The texts or images whose tokens are the rows of CKA. Default: the probe of the trainer. */
  readonly probe?: Batch | readonly Batch[];
  /** Whether to subtract column means, as the definition of CKA does. Default true. */
  readonly center?: boolean;
}

/**
 * Trains to the end, and compares the layers' outputs during training with those of the original and of the final model
 * (SAFE, figure 3). Snapshots of the adapter are kept in host memory.
 * @throws ConfigError for adapters that change the checkpoint in place or lengthen texts, before the first step; whatever a
 * step throws.
 */
export async function layerSimilarity(trainer: Trainer, options: SimilarityOptions = {}): Promise<LayerSimilarity[]> {
  const { every = trainer.progress.stepsPerEpoch, probe = trainer.options.probe, center = true } = options;
  const { onProgress, signal } = options;
  if (!probe) throw new ConfigError("There is no batch to compare layers on.", "Give one as `probe`.");
  if (!Number.isInteger(every) || every < 1) {
    throw new ConfigError(`layerSimilarity: every is ${every}.`, "Give a whole number of steps from 1.");
  }
  const { model, adapter } = trainer.options;
  checkComparable(adapter);
  const { step: start, totalSteps } = trainer.progress;
  const snapshots: Snapshot[] = [{ step: start, tensors: await trainer.state.snapshot() }];
  // Comparing a snapshot counts as one step of work.
  const total = totalSteps - start + Math.ceil((totalSteps - start) / every) + 1;
  for await (const { step } of trainer.steps()) {
    signal?.throwIfAborted();
    if (step % every === 0 || step === totalSteps) snapshots.push({ step, tensors: await trainer.state.snapshot() });
    onProgress?.(step - start, total);
  }
  const compare = (): Promise<LayerSimilarity[]> =>
    compareLayers({ model, adapter }, snapshots, {
      probe,
      center,
      ...(signal && { signal }),
      onProgress: (compared) => onProgress?.(totalSteps - start + compared, total),
    });
  return trainer.merging ? trainer.merging.unmerged(compare) : compare();
}
