import { makeAdapter } from "../../adapter/make";
import { DataError } from "../../base/errors";
import { makePolicy } from "../../freeze/make";
import { sumBytes } from "../../gpu/ledger";
import type { LoadedModel } from "../../io/load-model";
import { isInHead } from "../../model/model";
import { parametersOutsideHead } from "../../train/tensors/specs";
import type { TrainableSpec } from "../../train/tensors/specs";
import { Trainer } from "../../train/trainer";
import type { Study, StudyMethod, StudyTask } from "./file";
import { evaluateTask } from "../evaluation";
import type { TaskData } from "../tasks/task-data";
import type { OnProgress } from "../view/progress";

/** The result of a run. Bytes are GPU bytes of all lifetimes together; averages are over steps. */
export interface RunResult {
  readonly metrics: Readonly<Record<string, number>>;
  readonly lossFirst: number;
  readonly lossLast: number;
  /** Trainable parameters outside the head, at the start. */
  readonly trainable: number;
  /** Trainable parameters outside the head that are not frozen. */
  readonly averageTrainable: number;
  /** Share of the trained tensors in the layers that are frozen at the end. */
  readonly frozenShare: number;
  readonly peakBytes: number;
  /** After the last step. */
  readonly endBytes: number;
  readonly averageBytes: number;
  readonly savedBytesLast: number;
  readonly flops: number;
  readonly seconds: number;
  readonly policy: Readonly<Record<string, unknown>>;
}

/** Trains one method on one task with one seed, and evaluates it on the dev set. @throws DataError without a dev set. */
export async function runMethod(
  loaded: LoadedModel,
  study: Study,
  task: StudyTask,
  method: StudyMethod,
  seed: number,
  data: TaskData,
  onProgress?: OnProgress,
): Promise<RunResult> {
  const { model, engine } = loaded;
  if (!data.dev) throw new DataError(`${task.data} has no dev set`, "a study needs one to evaluate on: add its file");
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
      headLearningRate: method.headLearningRate,
      weightDecay: method.weightDecay,
      maxGradNorm: study.maxGradNorm,
    },
    schedule: { type: "linear", warmupRatio: study.warmupRatio },
  });
  const outsideHead = (specs: ReadonlyMap<string, TrainableSpec>): [string, TrainableSpec][] =>
    [...specs].filter(([name]) => !isInHead(model, name));
  const trainableAtStart = parametersOutsideHead(model, trainer.state.specs);
  const trainable: number[] = [];
  const bytes: number[] = [];
  const result = await trainer.train((report) => {
    trainable.push(parametersOutsideHead(model, trainer.state.live));
    bytes.push(sumBytes(report.bytes));
    onProgress?.(report.step, report.totalSteps);
  });
  const { state } = trainer;
  const inLayers = outsideHead(state.specs).filter(([, { layer }]) => typeof layer === "number");
  const frozen = inLayers.filter(([name]) => !state.live.has(name));
  const metrics = await evaluateTask(trainer, task.task, data, task.batch, {
    ...(task.generate && { generation: task.generate }),
  });
  return {
    metrics,
    lossFirst: result.lossFirst,
    lossLast: result.lossLast,
    trainable: trainableAtStart,
    averageTrainable: mean(trainable),
    frozenShare: inLayers.length === 0 ? 0 : frozen.length / inLayers.length,
    peakBytes: result.peakBytes,
    endBytes: bytes.at(-1) ?? 0,
    averageBytes: mean(bytes),
    savedBytesLast: result.savedBytesLast,
    flops: result.flops,
    seconds: result.seconds,
    policy: trainer.policyRecord(),
  };
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
