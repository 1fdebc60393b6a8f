import { makeAdapter } from "../../adapter/make";
import { sumBytes } from "../../gpu/ledger";
import type { LoadedModel } from "../../io/load-model";
import { isInHead } from "../../model/model";
import type { Model } from "../../model/model";
import { parametersOutsideHead } from "../../train/tensors/specs";
import { EarlyStopping } from "../../train/early-stopping";
import type { Schedule, ScheduleOptions, TrainerOptions } from "../../train/options";
import type { FreezeEvent, StepReport } from "../../train/loop/reports";
import type { TrainableSpec } from "../../train/tensors/specs";
import { Trainer } from "../../train/trainer";
import { evaluateTask } from "../evaluation";
import type { Metrics } from "../evaluation";
import { loraPlusFrom, optimizerFrom } from "../flags";
import { searchLearningRate, shortened } from "../learning-rate-search";
import type { TriedRate } from "../learning-rate-search";
import { policyOf } from "../plugin/policies";
import { ADDED } from "../plugin/registries";
import { objectiveOf, probeOf } from "../tasks/task-data";
import type { OnProgress } from "../view/progress";
import type { StudyCell } from "./cells";
import type { StudyData } from "./data";
import { learningRateOf, STUDY_SCHEDULES } from "./file";
import type { LearningRate, Study } from "./file";
import { withoutParts } from "./parts";
import type { SplitCounts } from "./regimes";

/** An evaluation on the validation set after one of a run's steps. */
export interface ValidationPoint {
  readonly step: number;
  /** Epoch of that step, counted from 0. */
  readonly epoch: number;
  readonly loss: number;
  /** Seconds of training until then; evaluations do not count. */
  readonly seconds: number;
}

/** The result of a run. Bytes are GPU bytes of all lifetimes together; averages are over steps. */
export interface RunResult {
  /** On the test set, with the best state where the study stops early, otherwise with the last one. */
  readonly metrics: Metrics;
  readonly lossFirst: number;
  readonly lossLast: number;
  /** Optimizer steps that were run. */
  readonly steps: number;
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
  /** Seconds of all steps. */
  readonly seconds: number;
  readonly policy: Readonly<Record<string, unknown>>;
  /** After which steps layers froze, and what that returned. */
  readonly freezes: readonly Pick<FreezeEvent, "step" | "layers" | "returnedBytes">[];
  /** Live GPU bytes after the first step, and after each one that changed them. */
  readonly memory: readonly Point[];
  /** Mean losses of stretches of the run, each at its last step. */
  readonly losses: readonly Point[];
  /** The rate at the end of warm-up. */
  readonly learningRate: number;
  /** The rates that were tried before, with the metrics of their runs on the validation set. */
  readonly tried?: readonly TriedRate[] | undefined;
  /** Evaluations in the course of the run, in studies that stop early. */
  readonly validation?: readonly ValidationPoint[] | undefined;
  /** The one with the least loss. */
  readonly best?: ValidationPoint | undefined;
  /** Examples of the parts of the data. */
  readonly split?: SplitCounts | undefined;
}

/** A step, and a value after it. */
export type Point = readonly [step: number, value: number];

/** Points of the curve of losses in a result: a run's own steps are too many, and too noisy, for a figure. */
const LOSS_POINTS = 50;

/** What the runs of a cell share. */
interface CellRuns {
  readonly study: Study;
  readonly cell: StudyCell;
  readonly data: StudyData;
  /** Loads the model as its checkpoint has it; some adapters train in place. */
  readonly load: () => Promise<LoadedModel>;
}

/** The model, and of its data what they need of it as it is loaded. */
async function loadPrepared({ load, data, cell: { task } }: CellRuns): Promise<LoadedModel> {
  const loaded = await load();
  try {
    for (const each of [data.validation, data.test]) await each.prepare?.(loaded, { size: task.batch });
    return loaded;
  } catch (error) {
    loaded.dispose();
    throw error;
  }
}

/** Trains one method on one task with one seed, and evaluates it. */
export async function runCell(runs: CellRuns, onProgress?: OnProgress): Promise<RunResult> {
  const { study, cell, data } = runs;
  const { task } = cell;
  const { schedule, tried } = await chooseRate(runs);
  using loaded = await loadPrepared(runs);
  loaded.engine.ledger.resetPeak();
  using trainer = await Trainer.create({ ...trainerOptions(runs, loaded.model, schedule), model: loaded });
  const trainableAtStart = parametersOutsideHead(loaded.model, trainer.state.specs);
  const { trainable, bytes, reports, validation } = await train(trainer, runs, onProgress);
  const peakBytes = sumBytes(trainer.peak);
  const { state } = trainer;
  const inLayers = outsideHead(loaded, state.specs).filter(([, { layer }]) => typeof layer === "number");
  const frozen = inLayers.filter(([name]) => !state.live.has(name));
  const generation = task.generate && { generation: task.generate };
  const { metric } = study;
  const metrics = await evaluateTask(trainer, task.task, data.test, task.batch, { ...generation, metric });
  return {
    metrics,
    lossFirst: reports[0]!.loss,
    lossLast: reports.at(-1)!.loss,
    steps: reports.length,
    trainable: trainableAtStart,
    averageTrainable: mean(trainable),
    frozenShare: inLayers.length === 0 ? 0 : frozen.length / inLayers.length,
    peakBytes,
    endBytes: bytes.at(-1)!,
    averageBytes: mean(bytes),
    savedBytesLast: reports.at(-1)!.bytes.saved,
    flops: sum(reports.map(({ flops }) => flops)),
    seconds: sum(reports.map(({ seconds }) => seconds)),
    policy: trainer.policyRecord(),
    freezes: reports.flatMap(({ freezes }) =>
      freezes.map(({ step, layers, returnedBytes }) => ({ step, layers, returnedBytes })),
    ),
    memory: bytes.flatMap((value, i): Point[] => (value === bytes[i - 1] ? [] : [[reports[i]!.step, value]])),
    losses: stretches(reports),
    learningRate: schedule.learningRate,
    tried,
    validation: study.earlyStopping && validation.points,
    best: validation.best,
    split: data.counts,
  };
}

/** The course of the learning rate, and the rate that its factors belong to. */
interface RateSchedule {
  readonly learningRate: number;
  readonly options: ScheduleOptions | Schedule;
}

function scheduleWith(study: Study, rate: Exclude<LearningRate, { readonly search: unknown }>): RateSchedule {
  const { schedule, warmupRatio } = study;
  if (typeof rate === "number") {
    const type = STUDY_SCHEDULES.find((shipped) => shipped === schedule);
    // `readStudy` has made sure that it is a plugin's, if not the package's.
    const options = type === undefined ? ADDED.schedules.get(schedule)! : { type, warmupRatio };
    return { learningRate: rate, options };
  }
  const { initial, peak, final, ...warmup } = rate;
  const steps = warmup.warmupSteps === undefined ? {} : { warmupSteps: warmup.warmupSteps };
  const share = { warmupRatio: warmup.warmupRatio ?? warmupRatio };
  return { learningRate: peak, options: { type: "three_rate", initial, peak, final, ...share, ...steps } };
}

/** The learning rate of a cell, found in short runs where the study says so. */
async function chooseRate(
  runs: CellRuns,
): Promise<{ readonly schedule: RateSchedule; readonly tried?: readonly TriedRate[] }> {
  const { study, cell, data } = runs;
  const { task, method } = cell;
  const rate = learningRateOf(method, task);
  if (typeof rate === "number" || !("search" in rate)) return { schedule: scheduleWith(study, rate) };
  const { learningRate, tried } = await searchLearningRate(rate.search, async (candidate) => {
    using loaded = await loadPrepared(runs);
    const options = trainerOptions(runs, loaded.model, scheduleWith(study, candidate));
    using trainer = await Trainer.create({ ...shortened(options, rate.share), model: loaded });
    await trainer.train();
    return await evaluateTask(trainer, task.task, data.validation, task.batch, { metric: study.metric });
  });
  return { schedule: scheduleWith(study, learningRate), tried };
}

/** How a cell is trained, but for its loaded model. */
export function trainerOptions(
  { study, cell: { task, method, seed }, data }: Omit<CellRuns, "load">,
  model: Model,
  { learningRate, options: schedule }: RateSchedule,
): Omit<TrainerOptions, "model"> {
  const adapter = makeAdapter(withoutParts(model, method.adapter, method.without));
  const { loraPlusRatio, headLearningRate } = method;
  const objective = objectiveOf([data.validation, data.test]);
  const groups = loraPlusFrom({ loraPlusRatio, headLr: headLearningRate }, { adapter, model, learningRate });
  return {
    adapter,
    policy: policyOf(method.freeze),
    ...(task.steps === undefined ? { epochs: task.epochs! } : { steps: task.steps }),
    accumulate: task.accumulate,
    labelSmoothing: objective ? 0 : task.labelSmoothing,
    memory: { activations: method.activations, recompute: method.recompute },
    seed,
    data: data.validation.train(task.batch, seed),
    ...probeOf(data.validation, { batch: task.batch, seed, probeBatches: method.probeBatches }),
    optimizer: optimizerFrom(
      { optimizer: method.optimizer ?? "adamw", momentum: undefined },
      {
        learningRate,
        headLearningRate,
        ...(groups.length > 0 && { groups }),
        weightDecay: method.weightDecay,
        maxGradNorm: study.maxGradNorm,
      },
    ),
    schedule,
    loss: method.loss === undefined ? objective : ADDED.losses.get(method.loss),
  };
}

/** Trains to the end, or until the validation loss no longer falls, and then goes back to the best state. */
async function train(trainer: Trainer, { study, cell, data }: CellRuns, onProgress: OnProgress | undefined) {
  const { earlyStopping } = study;
  const { stepsPerEpoch } = trainer.progress;
  const stopping = earlyStopping && new EarlyStopping(trainer, { patience: earlyStopping.patience });
  const every = earlyStopping?.every ?? stepsPerEpoch;
  const reports: StepReport[] = [];
  const trainable: number[] = [];
  const bytes: number[] = [];
  const points: ValidationPoint[] = [];
  let seconds = 0;
  for await (const report of trainer.steps({ ahead: !stopping })) {
    const { step, totalSteps } = report;
    reports.push(report);
    trainable.push(parametersOutsideHead(trainer.options.model.model, trainer.state.live));
    bytes.push(sumBytes(report.bytes));
    seconds += report.seconds;
    onProgress?.(step, totalSteps);
    if (!stopping || (step % every !== 0 && step < totalSteps)) continue;
    const { loss } = await trainer.evaluate(data.validation.dev!(cell.task.batch));
    points.push({ step, epoch: Math.ceil(step / stepsPerEpoch) - 1, loss, seconds });
    if (await stopping.add(loss)) break;
  }
  await stopping?.restoreBest();
  const best = points.find(({ step }) => step === stopping?.best?.step);
  return { reports, trainable, bytes, validation: { points, best } };
}

function stretches(reports: readonly StepReport[]): Point[] {
  const length = Math.ceil(reports.length / LOSS_POINTS);
  const starts = Array.from({ length: Math.ceil(reports.length / length) }, (_, i) => i * length);
  return starts.map((start) => {
    const stretch = reports.slice(start, start + length);
    return [stretch.at(-1)!.step, mean(stretch.map(({ loss }) => loss))];
  });
}

function outsideHead({ model }: LoadedModel, specs: ReadonlyMap<string, TrainableSpec>): [string, TrainableSpec][] {
  return [...specs].filter(([name]) => !isInHead(model, name));
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
const mean = (values: readonly number[]): number => sum(values) / values.length;
