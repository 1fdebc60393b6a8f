import type { Adapter } from "../adapter/adapter";
import type { Policy } from "../freeze/policy";
import type { LoadedModel } from "../io/load-model";
import { SENSITIVITY_KINDS } from "../ops/sensitivity";
import type { SensitivityKind } from "../ops/sensitivity";
import type { BatchSource, TrainerOptions } from "../train/options";
import { parametersOutsideHead } from "../train/tensors/specs";
import { Trainer } from "../train/trainer";
import type { AnalysisControl } from "./subject";

/** A matrix that froze. */
export interface FrozenMatrix {
  readonly name: string;
  /** Transformer layer, from 0; undefined outside the layers. */
  readonly layer: number | undefined;
  /** Optimizer steps before it froze. */
  readonly step: number;
}

/** A run whose matrices froze by one sensitivity. */
export interface SensitivityRun {
  readonly sensitivity: SensitivityKind;
  /** In the order in which they froze. */
  readonly frozen: readonly FrozenMatrix[];
  readonly metrics: Readonly<Record<string, number>>;
  /** Parameters outside the head that still learn, averaged over the steps. */
  readonly averageLive: number;
  readonly stepsPerEpoch: number;
}

export interface SensitivityOptions extends AnalysisControl {
  readonly model: LoadedModel;
  /** Creates the adapter of a run. */
  readonly adapter: () => Adapter;
  /** Creates the training data of a run. */
  readonly data: () => BatchSource;
  /** Creates the policy that freezes by a sensitivity, for example `(sensitivity) => afloraFreezing({ sensitivity })`. */
  readonly policy: (sensitivity: SensitivityKind) => Policy;
  /** Settings of the training of each run. */
  readonly training?: Omit<TrainerOptions, "model" | "adapter" | "data" | "policy">;
  /** Evaluates a trained run: metrics by name. */
  readonly evaluate: (trainer: Trainer) => Promise<Record<string, number>>;
  /** Default all. */
  readonly sensitivities?: readonly SensitivityKind[];
}

/**
 * Trains one run for each sensitivity by which AFLoRA may freeze (Liu et al. 2024, figure 4), all with the same seed and
 * data, and tells which matrices froze when. Progress counts optimizer steps.
 * @throws whatever creating or training a run throws.
 */
export async function compareSensitivities(options: SensitivityOptions): Promise<SensitivityRun[]> {
  const { sensitivities = SENSITIVITY_KINDS, onProgress } = options;
  const runs: SensitivityRun[] = [];
  for (const [index, sensitivity] of sensitivities.entries()) {
    const onStep = (step: number, steps: number): void =>
      onProgress?.(index * steps + step, sensitivities.length * steps);
    runs.push(await runSensitivity(options, sensitivity, onStep));
  }
  return runs;
}

async function runSensitivity(
  { model, adapter, data, policy, training, evaluate, signal }: SensitivityOptions,
  sensitivity: SensitivityKind,
  onStep: (step: number, steps: number) => void,
): Promise<SensitivityRun> {
  using trainer = await Trainer.create({
    ...training,
    model,
    adapter: adapter(),
    data: data(),
    policy: policy(sensitivity),
  });
  const { specs } = trainer.state;
  const frozen: FrozenMatrix[] = [];
  let [liveSum, steps] = [0, 0];
  for await (const { step, totalSteps, freezes } of trainer.steps()) {
    signal?.throwIfAborted();
    for (const freeze of freezes) {
      for (const name of freeze.tensors) {
        const layer = specs.get(name)?.layer;
        frozen.push({ name, layer: typeof layer === "number" ? layer : undefined, step: freeze.step });
      }
    }
    liveSum += parametersOutsideHead(model.model, trainer.state.live);
    steps++;
    onStep(step, totalSteps);
  }
  const { stepsPerEpoch } = trainer.progress;
  return { sensitivity, frozen, metrics: await evaluate(trainer), averageLive: liveSum / steps, stepsPerEpoch };
}
