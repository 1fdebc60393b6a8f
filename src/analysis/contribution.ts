import type { Adapter } from "../adapter/adapter";
import { elements } from "../base/shape";
import type { Bytes } from "../gpu/ledger";
import { sumBytes } from "../gpu/ledger";
import type { LoadedModel } from "../io/load-model";
import type { BatchSource, TrainerOptions } from "../train/options";
import { Trainer } from "../train/trainer";
import type { AnalysisControl } from "./subject";

/** What a run with the adapter of one layer, or of all layers, gave. */
export interface Contribution {
  /** Undefined for the run with all layers' adapters. */
  readonly layer: number | undefined;
  readonly metrics: Readonly<Record<string, number>>;
  /** Numbers that learn in the transformer's layers. */
  readonly trainable: number;
  readonly lossLast: number;
  /** Most GPU bytes at once while training, the model's weights included, and by lifetime. */
  readonly peakBytes: number;
  readonly peak: Bytes;
  readonly seconds: number;
}

export interface ContributionOptions extends AnalysisControl {
  readonly model: LoadedModel;
  /** Makes the adapter of some layers alone. */
  readonly adapter: (layers: readonly number[]) => Adapter;
  /** Makes the data anew for every run. */
  readonly data: () => BatchSource;
  /** How each run is trained. */
  readonly training?: Omit<TrainerOptions, "model" | "adapter" | "data">;
  /** Judges a trained run: metrics by name. */
  readonly judge: (trainer: Trainer) => Promise<Record<string, number>>;
  /** Layers to run; default every one. */
  readonly layers?: readonly number[];
  /** Whether to run all layers' adapters together as well, to compare with. Default true. */
  readonly together?: boolean;
  /** Results of runs that need not be run again, as `onRun` was given them. */
  readonly finished?: readonly Contribution[];
  /** Called after every new run, and waited for: the place to save it. */
  readonly onRun?: (run: Contribution) => Promise<void> | void;
}

/**
 * What each layer's adapter does by itself: one run for every layer, with no adapter elsewhere. SAFE's figure 2. Progress
 * counts optimizer steps of the runs that are left.
 * @throws what making or training a run throws; runs before it were handed to `onRun`.
 */
export async function adapterContribution(options: ContributionOptions): Promise<Contribution[]> {
  const { model, finished = [], together = true, onRun, onProgress } = options;
  const all = Array.from({ length: model.model.layers }, (_, layer) => layer);
  const wanted = [...(together ? [undefined] : []), ...(options.layers ?? all)];
  const missing = wanted.filter((layer) => !finished.some((run) => run.layer === layer));
  const found = [...finished];
  for (const [index, layer] of missing.entries()) {
    const run = await runAlone(options, layer, layer === undefined ? all : [layer], (step, of) =>
      onProgress?.(index * of + step, missing.length * of),
    );
    found.push(run);
    await onRun?.(run);
  }
  return wanted.flatMap((layer) => found.find((run) => run.layer === layer) ?? []);
}

async function runAlone(
  options: ContributionOptions,
  layer: number | undefined,
  layers: readonly number[],
  onStep: (step: number, of: number) => void,
): Promise<Contribution> {
  const { model, training, judge, signal } = options;
  const { ledger } = model.engine;
  ledger.resetPeak();
  using trainer = await Trainer.create({ ...training, model, adapter: options.adapter(layers), data: options.data() });
  const start = performance.now();
  let lossLast = NaN;
  for await (const { step, totalSteps, loss } of trainer.steps()) {
    signal?.throwIfAborted();
    lossLast = loss;
    onStep(step, totalSteps);
  }
  const seconds = (performance.now() - start) / 1000;
  const peak = ledger.peak;
  const inLayers = [...trainer.state.specs.values()].filter((spec) => spec.layer !== undefined);
  const trainable = inLayers.reduce((sum, { shape }) => sum + elements(shape), 0);
  return { layer, metrics: await judge(trainer), trainable, lossLast, peakBytes: sumBytes(peak), peak, seconds };
}
