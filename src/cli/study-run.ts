import { makeAdapter } from "../adapter/make";
import { DataError } from "../base/errors";
import { elements } from "../base/shape";
import { makePolicy } from "../freeze/make";
import { sumBytes } from "../gpu/ledger";
import type { LoadedModel } from "../io/load-model";
import type { TrainableSpec } from "../train/tensors/specs";
import { Trainer } from "../train/trainer";
import type { Study, StudyMethod, StudyTask } from "./study-file";
import { judge } from "./train-data";
import type { TaskData } from "./task-data";
import type { Tick } from "./view/stage";

/** What a run gave. Bytes are GPU bytes, whole; averages are over steps. */
export interface RunResult {
  readonly metrics: Readonly<Record<string, number>>;
  readonly lossFirst: number;
  readonly lossLast: number;
  /** Numbers that learn, outside the head: at the start, and on average over training. */
  readonly trainable: number;
  readonly averageTrainable: number;
  /** Share of the adapter's tensors in the layers that is frozen at the end. */
  readonly frozenShare: number;
  readonly peakBytes: number;
  readonly averageBytes: number;
  readonly savedBytesLast: number;
  readonly flops: number;
  readonly seconds: number;
  readonly policy: Readonly<Record<string, unknown>>;
}

/** Trains one method on one task with one seed, and judges it on the dev set. */
export async function runMethod(
  loaded: LoadedModel,
  study: Study,
  task: StudyTask,
  method: StudyMethod,
  seed: number,
  data: TaskData,
  tick?: Tick,
): Promise<RunResult> {
  const { model, engine } = loaded;
  if (!data.dev) throw new DataError(`${task.data} has no dev set`, "a study judges by one: add its file");
  const { ledger } = engine;
  ledger.resetPeak();
  using trainer = await Trainer.create({
    model: loaded,
    adapter: makeAdapter(method.adapter),
    policy: makePolicy(method.freeze),
    steps: task.steps,
    activations: method.activations,
    recompute: method.recompute,
    seed,
    data: data.train(task.batch, seed),
    optimizer: {
      learningRate: method.learningRate,
      weightDecay: method.weightDecay,
      maxGradNorm: study.maxGradNorm,
    },
    schedule: { type: "linear", warmupRatio: study.warmupRatio },
  });
  const inLayers = (specs: ReadonlyMap<string, TrainableSpec>): [string, TrainableSpec][] =>
    [...specs].filter(([name]) => !model.heads.some((head) => name.startsWith(`${head}.`)));
  const numbers = (specs: ReadonlyMap<string, TrainableSpec>): number =>
    inLayers(specs).reduce((sum, [, { shape }]) => sum + elements(shape), 0);
  const trainables: number[] = [];
  const bytes: number[] = [];
  const result = await trainer.train((report) => {
    trainables.push(numbers(trainer.state.live));
    bytes.push(sumBytes(report.bytes));
    tick?.(report.step, report.totalSteps);
  });
  const { state } = trainer;
  const layered = inLayers(state.specs).filter(([, { layer }]) => layer !== undefined);
  const frozen = layered.filter(([name]) => !state.live.has(name));
  const metrics = await judge(trainer, task.task, data, task.batch, {
    ...(task.generate && { writing: task.generate }),
  });
  return {
    metrics,
    lossFirst: result.lossFirst,
    lossLast: result.lossLast,
    trainable: numbers(state.specs),
    averageTrainable: mean(trainables),
    frozenShare: layered.length === 0 ? 0 : frozen.length / layered.length,
    peakBytes: result.peakBytes,
    averageBytes: mean(bytes),
    savedBytesLast: result.savedBytesLast,
    flops: result.flops,
    seconds: result.seconds,
    policy: trainer.policyRecord(),
  };
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
