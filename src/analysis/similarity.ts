import { ConfigError } from "../base/errors";
import type { Batch } from "../data/batch";
import { finishCka } from "../ops/cka";
import { Executor } from "../run/executor";
import type { TensorStore } from "../run/store";
import { plan } from "../tape/plan";
import type { Plan } from "../tape/plan";
import { Tensor } from "../tensor";
import { checkComparable } from "../train/freezing/layer-importance";
import { batchInputs } from "../train/plans/inputs";
import { fixedSpecs, trainableSpecs } from "../train/tensors/specs";
import { TrainableTensors } from "../train/tensors/trainable-tensors";
import { comparisonOutput, traceComparison } from "../train/plans/comparison-trace";
import { finalName } from "../train/tensors/names";
import type { Trainer } from "../train/trainer";
import type { AnalysisControl, NamedTensors, Subject } from "./subject";

/** An adapter as it was at some step. */
export interface Snapshot {
  /** Optimizer steps done. */
  readonly step: number;
  readonly tensors: NamedTensors;
}

export interface CompareOptions extends AnalysisControl {
  /** The texts or images whose tokens are CKA's rows; padding is left out. */
  readonly probe: Batch;
  /** Subtract column means before CKA, as its definition has it. Default true. */
  readonly center?: boolean;
}

/** CKA of every layer's activation at some step, by layer. */
export interface LayerSimilarity {
  readonly step: number;
  /** ... with that of the model without the adapter. */
  readonly original: readonly number[];
  /** ... with that of the last snapshot. */
  readonly final: readonly number[];
}

/**
 * Linear CKA (Kornblith et al. 2019) of every layer's output, in eval mode, at several moments of training: with the
 * original model's and with the last moment's. SAFE's figure 3. Two times two forward passes a snapshot.
 * @throws ConfigError without snapshots, and for adapters that change the checkpoint in place or lengthen texts.
 */
export async function compareLayers(
  { model: loaded, adapter }: Pick<Subject, "model" | "adapter">,
  snapshots: readonly Snapshot[],
  { probe, center = true, onProgress, signal }: CompareOptions,
): Promise<LayerSimilarity[]> {
  const last = snapshots.at(-1);
  if (!last) throw new ConfigError("There are no snapshots to compare.", "Take one before the first step at least.");
  checkComparable(adapter);
  const { model, fragileNorms, engine } = loaded;
  const own = new Set([...fixedSpecs(model, adapter).keys(), ...trainableSpecs(model, adapter).keys()]);
  const rename = (name: string): string => (own.has(name) ? finalName(name) : name);
  const options = {
    model,
    adapter,
    batch: { size: probe.size, length: probe.length },
    isTraining: false,
    fragileNorms,
  };
  const planned = (...reference: [{ readonly rename: typeof rename }?]): Plan => {
    const { tape, outputs } = traceComparison(options, center, ...reference);
    return plan(tape, { outputs, limits: engine.device.limits });
  };
  const [toOriginal, toFinal] = [planned(), planned({ rename })];
  using executor = new Executor(engine.device);
  using memory = await Pair.create({ model: loaded, adapter, tensors: last.tensors });
  await executor.hold([toOriginal, toFinal]);
  const inputs = { ...batchInputs(model, probe), probe_mask: probe.attentionMask };
  const ckas = async (comparison: Plan): Promise<number[]> => {
    const sums = await executor.run(comparison, memory, inputs);
    return Array.from({ length: model.layers }, (_, layer) => finishCka(sums.get(comparisonOutput(layer))!));
  };
  const found: LayerSimilarity[] = [];
  for (const { step, tensors } of snapshots) {
    signal?.throwIfAborted();
    memory.state.restore(tensors);
    found.push({ step, original: await ckas(toOriginal), final: await ckas(toFinal) });
    onProgress?.(found.length, snapshots.length);
  }
  return found;
}

/** Two sets of an adapter's tensors on the GPU: one that changes, and the last one under names of its own. */
class Pair implements TensorStore {
  readonly #finals = new Map<string, Tensor>();

  private constructor(readonly state: TrainableTensors) {}

  static async create({ model: loaded, adapter, tensors }: Subject): Promise<Pair> {
    const { device } = loaded.engine;
    const pair = new Pair(await TrainableTensors.create(loaded, adapter, 0, { live: new Map() }));
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
  /** Steps between two snapshots; default an epoch. There is one before the first step and one after the last. */
  readonly every?: number;
  /** Default the trainer's own probe, which is the first batch of its data unless it was given. */
  readonly probe?: Batch;
  readonly center?: boolean;
}

/**
 * Trains to the end and compares every layer's activation on the way with the original model's and the final one's: SAFE's
 * figure 3. Snapshots of the adapter wait on the host.
 * @throws ConfigError as `compareLayers`, before any step is taken; what a step throws.
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
  const { step: done, totalSteps } = trainer.progress;
  const snapshots: Snapshot[] = [{ step: done, tensors: await trainer.state.snapshot() }];
  // A snapshot's comparison is counted as a step.
  const work = totalSteps - done + Math.ceil((totalSteps - done) / every) + 1;
  for await (const { step } of trainer.steps()) {
    signal?.throwIfAborted();
    if (step % every === 0 || step === totalSteps) snapshots.push({ step, tensors: await trainer.state.snapshot() });
    onProgress?.(step - done, work);
  }
  const compare = (): Promise<LayerSimilarity[]> =>
    compareLayers({ model, adapter }, snapshots, {
      probe,
      center,
      ...(signal && { signal }),
      onProgress: (count) => onProgress?.(totalSteps - done + count, work),
    });
  return trainer.merging ? trainer.merging.apart(compare) : compare();
}
