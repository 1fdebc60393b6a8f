import type { Adapter } from "../adapter/adapter";
import { elements } from "../base/shape";
import type { Bytes } from "../gpu/ledger";
import { sumBytes } from "../gpu/ledger";
import type { LoadedModel } from "../io/load-model";
import type { BatchSource, TrainerOptions } from "../train/options";
import { Trainer } from "../train/trainer";
import type { AnalysisControl } from "./subject";

/** Result of a run with the adapter of one layer alone, or of all layers. */
export interface Contribution {
  /** The adapted layer; undefined for the run that adapts all layers. */
  readonly layer: number | undefined;
  readonly metrics: Readonly<Record<string, number>>;
  /** Trainable parameters in the transformer's layers. */
  readonly trainable: number;
  /** Loss of the last step. */
  readonly lossLast: number;
  /** Most GPU bytes at any time while training, including the model's weights. */
  readonly peakBytes: number;
  /** Peak bytes by lifetime. */
  readonly peak: Bytes;
  readonly seconds: number;
}

export interface ContributionOptions extends AnalysisControl {
  readonly model: LoadedModel;
  /** Creates an adapter of these layers alone. */
  readonly adapter: (layers: readonly number[]) => Adapter;
  /** Creates the training data; called for every run. */
  readonly data: () => BatchSource;
  /** Settings of the training of each run. */
  readonly training?: Omit<TrainerOptions, "model" | "adapter" | "data">;
  /** Evaluates a trained run: metrics by name. */
  readonly evaluate: (trainer: Trainer) => Promise<Record<string, number>>;
  /** Layers with a run. Default: every layer. */
  readonly layers?: readonly number[];
  /** Whether there is also a run that adapts all layers, for comparison. Default true. */
  readonly together?: boolean;
  /** Results that `onRun` received earlier; their runs are not repeated. */
  readonly finished?: readonly Contribution[];
  /** Called and awaited after every new run, for example to save it. */
  readonly onRun?: (run: Contribution) => Promise<void> | void;
}

/**
 * Trains one run for each layer, with an adapter in that layer alone: what a single adapter reaches and needs (SAFE, figure
 * 2). Progress counts the optimizer steps of the new runs.
 * @returns the results, that of all layers first.
 * @throws whatever creating or training a run throws. Earlier runs were passed to `onRun`.
 */
export async function adapterContribution(options: ContributionOptions): Promise<Contribution[]> {
  const { model, finished = [], together = true, onRun, onProgress } = options;
  const allLayers = Array.from({ length: model.model.layers }, (_, layer) => layer);
  const cases = [...(together ? [undefined] : []), ...(options.layers ?? allLayers)];
  const missing = cases.filter((layer) => !finished.some((run) => run.layer === layer));
  const runs = [...finished];
  for (const [index, layer] of missing.entries()) {
    const run = await runLayers(options, layer, layer === undefined ? allLayers : [layer], (step, steps) =>
      onProgress?.(index * steps + step, missing.length * steps),
    );
    runs.push(run);
    await onRun?.(run);
  }
  return cases.flatMap((layer) => runs.find((run) => run.layer === layer) ?? []);
}

async function runLayers(
  options: ContributionOptions,
  layer: number | undefined,
  layers: readonly number[],
  onStep: (step: number, steps: number) => void,
): Promise<Contribution> {
  const { model, training, evaluate, signal } = options;
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
  const inLayers = [...trainer.state.specs.values()].filter((spec) => typeof spec.layer === "number");
  const trainable = inLayers.reduce((sum, { shape }) => sum + elements(shape), 0);
  return { layer, metrics: await evaluate(trainer), trainable, lossLast, peakBytes: sumBytes(peak), peak, seconds };
}
