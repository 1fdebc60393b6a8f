// A run: trains, evaluates, draws, and keeps itself in the browser's storage so that it goes on after a reload.
import * as v from "valibot";
import { SafetapeError } from "../../../src/base/errors";
import type { Batch } from "../../../src/data/batch";
import { accuracy, perplexity } from "../../../src/data/metrics";
import type { Engine } from "../../../src/engine";
import type { AdapterWeights } from "../../../src/generate/weights";
import type { Directory } from "../../../src/io/directory";
import { checkSchema } from "../../../src/io/json";
import { loadModel } from "../../../src/io/load-model";
import type { LoadedModel } from "../../../src/io/load-model";
import { packReports, unpackReports } from "../../../src/cli/report-table";
import { RunLog } from "../../../src/report/run-log";
import type { RunRecord } from "../../../src/report/record";
import type { Evaluation } from "../../../src/train/evaluate";
import type { StepReport } from "../../../src/train/loop/reports";
import type { CheckpointExtra } from "../../../src/train/options";
import { Trainer } from "../../../src/train/trainer";
import { version } from "../../../package.json";
import type { EvaluationFacts, Metrics, PlanForm, RunFacts, StudioEvent } from "../protocol";
import type { StudioData } from "./data";
import { runDrawings } from "./pictures";
import { adapterOf, policyOf, trainerSettings } from "./plan";

/** Evaluations in the course of a run. */
const EVALUATIONS = 8;
/** Milliseconds between two checkpoints, and between two reports to the page. */
const CHECKPOINT_MS = 5_000;
const REPORT_MS = 100;
/** A figure is drawn at most so often, one after the other, and takes at most a tenth of the time. */
const PICTURE_MS = 300;
const PICTURE_SHARE = 10;
/** Steps over which the time that is left is estimated. */
const RECENT = 20;
/** Steps of a measurement; the first of them compile kernels. */
const MEASURED_STEPS = 4;

const METRICS = v.record(v.string(), v.number());
/** What checkpoints have of a run beside the trainer's own. */
const EXTRA = v.object({
  table: v.object({
    columns: v.array(v.string()),
    rest: v.array(v.tuple([v.number(), v.record(v.string(), v.unknown())])),
  }),
  before: METRICS,
  evaluations: v.array(v.object({ step: v.number(), metrics: METRICS })),
});

export interface RunOptions {
  readonly engine: Engine;
  readonly data: StudioData;
  readonly form: PlanForm;
  /** Where checkpoints go; undefined for none. */
  readonly checkpoints: Directory | undefined;
  readonly isResumed: boolean;
  readonly emit: (event: StudioEvent) => void;
}

/** The metrics of an evaluation. */
function metricsOf({ predictions, labels, loss, count }: Evaluation): Metrics {
  const first =
    predictions.length > 0
      ? { accuracy: accuracy(predictions, labels) }
      : { perplexity: perplexity(loss * count, count) };
  return { ...first, loss };
}

export class Run {
  readonly #reports: StepReport[] = [];
  readonly #log = new RunLog();
  #before: Metrics = {};
  #after: Metrics = {};
  #confusion: readonly (readonly number[])[] = [];
  #evaluations: { step: number; metrics: Metrics }[] = [];
  #isStopping = false;
  #gate: { readonly open: () => void; readonly opened: Promise<void> } | undefined;
  #weights: AdapterWeights | undefined;
  #lastCheckpoint = performance.now();
  #nextPicture = 0;
  /** Figures drawn so far: each time the next one is. */
  #pictures = 0;
  /** Whether the storage refused a checkpoint: it is asked again only where the user pauses or stops. */
  #isStorageFull = false;

  private constructor(
    private readonly options: RunOptions,
    readonly loaded: LoadedModel,
    readonly trainer: Trainer,
  ) {}

  static async open(options: RunOptions): Promise<Run> {
    const { engine, data, form, checkpoints, isResumed, emit } = options;
    emit({ type: "progress", text: "Loading weights ..." });
    const loaded = await loadModel(engine, data.directory, {
      ...data.head,
      weights: form.weights,
      onProgress: (done, of) => emit({ type: "progress", text: `Loading weights: ${Math.floor((100 * done) / of)} %` }),
    });
    let run: Run | undefined;
    try {
      emit({ type: "progress", text: "Planning the run ..." });
      const loss = await data.loss(form.length);
      const trainer = await Trainer.create({
        model: loaded,
        adapter: adapterOf(form),
        policy: policyOf(form),
        data: await data.trainBatches(form.batch, form.length, form.seed),
        ...trainerSettings(form),
        ...(loss && { loss }),
        onNotFinite: "skip",
        warn: (text) => emit({ type: "notice", text }),
        ...(checkpoints && {
          checkpoints: { directory: checkpoints, every: 0, keep: 1, resume: isResumed, extra: () => run!.#extra() },
        }),
      });
      run = new Run(options, loaded, trainer);
      run.#restore();
      return run;
    } catch (error) {
      loaded.dispose();
      throw error;
    }
  }

  /** Seconds of a step, from a few steps that change nothing which is kept. */
  static async measure(options: Omit<RunOptions, "checkpoints" | "isResumed">): Promise<number> {
    const run = await Run.open({ ...options, checkpoints: undefined, isResumed: false });
    try {
      const seconds: number[] = [];
      for await (const report of run.trainer.steps()) {
        seconds.push(report.seconds);
        options.emit({ type: "progress", text: `Measured step ${seconds.length} of ${MEASURED_STEPS}` });
        if (seconds.length === MEASURED_STEPS) break;
      }
      return Math.min(...seconds.slice(-2));
    } finally {
      run.dispose();
    }
  }

  /** Trains until the end, or until it is stopped. @throws what the trainer throws; the last checkpoint stays. */
  async train(): Promise<RunFacts> {
    const { emit, form, data } = this.options;
    const { trainer } = this;
    const dev = await data.devBatches(form.batch, form.length);
    const { step: done, totalSteps } = trainer.progress;
    this.#isStopping = false;
    this.#weights = undefined;
    if (dev && done === 0 && Object.keys(this.#before).length === 0) {
      emit({ type: "progress", text: "Evaluating the model before training ..." });
      this.#before = metricsOf(await trainer.evaluate(dev()));
    }
    const every = Math.max(1, Math.ceil(totalSteps / EVALUATIONS));
    const recent: number[] = [];
    let [last, lastReport] = [performance.now(), 0];
    let { device } = trainer.options.model.engine;
    emit({ type: "progress", text: "Training; the first step compiles kernels ..." });
    if (done < totalSteps) {
      for await (const report of trainer.steps()) {
        this.#reports.push(report);
        this.#log.add(report);
        if (device !== trainer.options.model.engine.device) {
          device = trainer.options.model.engine.device;
          const text = `The GPU was lost and is back: the run went on at step ${report.step}, with the same numbers.`;
          emit({ type: "notice", text });
          emit({ type: "progress", text: "Training ..." });
        }
        const now = performance.now();
        recent.push((now - last) / 1000);
        last = now;
        if (recent.length > RECENT) recent.shift();
        const { step } = report;
        if (now - lastReport > REPORT_MS || step === totalSteps) {
          lastReport = now;
          const mean = recent.reduce((sum, seconds) => sum + seconds, 0) / recent.length;
          const { loss, examplesPerSecond, bytes, horizon } = report;
          const left = mean * (totalSteps - step);
          emit({ type: "step", step, totalSteps, loss, examplesPerSecond, bytes, horizon, left });
        }
        if (dev && step % every === 0 && step < totalSteps) {
          const metrics = metricsOf(await trainer.evaluate(dev()));
          this.#evaluations.push({ step, metrics });
          emit({ type: "evaluated", step, metrics });
        }
        this.#draw();
        if (now - this.#lastCheckpoint > CHECKPOINT_MS) await this.#save();
        // Messages of the page, such as to pause, arrive while nothing else runs here.
        await breath();
        if (this.#gate) await this.#pause(this.#gate);
        if (this.isStopping) break;
      }
    }
    return this.#finish(dev);
  }

  async #pause({ opened }: { readonly opened: Promise<void> }): Promise<void> {
    await this.#save(true);
    this.options.emit({ type: "progress", text: `Paused after step ${this.trainer.progress.step}.` });
    await opened;
    this.options.emit({ type: "progress", text: "Going on ..." });
  }

  async #finish(dev: (() => Iterable<Batch>) | undefined): Promise<RunFacts> {
    const { emit, data } = this.options;
    if (dev) {
      emit({ type: "progress", text: "Evaluating ..." });
      const evaluation = await this.trainer.evaluate(dev());
      this.#after = metricsOf(evaluation);
      this.#confusion = confusionOf(evaluation, data.labelNames.length);
    }
    await this.#save(true);
    this.#draw(true);
    return this.facts;
  }

  get facts(): RunFacts {
    const { step, totalSteps } = this.trainer.progress;
    return { step, totalSteps, hasEnded: step >= totalSteps, before: this.#before, after: this.#after };
  }

  get evaluation(): EvaluationFacts {
    const { labelNames } = this.options.data;
    return { before: this.#before, after: this.#after, labels: labelNames, confusion: this.#confusion };
  }

  /** Whether the user asked the run to stop, which happens between two steps. */
  get isStopping(): boolean {
    return this.#isStopping;
  }

  pause(): void {
    if (this.#gate) return;
    let open = (): void => undefined;
    const opened = new Promise<void>((resolve) => (open = resolve));
    this.#gate = { open, opened };
  }

  resume(): void {
    this.#gate?.open();
    this.#gate = undefined;
  }

  stop(): void {
    this.#isStopping = true;
    this.resume();
  }

  /** The run so far, as its report is drawn from it. */
  record(): RunRecord {
    const { data, form } = this.options;
    return this.#log.record(this.trainer, {
      title: `${form.adapter === "lora" ? "LoRA" : "DoRA"}${form.freeze === "safe" ? " with SAFE" : ""} on ${data.facts.files[0] ?? "data"}`,
      task: data.mapping.task,
      options: { ...form },
      metrics: this.#after,
      evaluations: this.#evaluations,
      versions: { safetape: version },
    });
  }

  /** The trained adapter, for inference beside the model as it was. */
  async weights(): Promise<AdapterWeights> {
    this.#weights ??= { adapter: this.trainer.options.adapter, tensors: await this.trainer.snapshot() };
    return this.#weights;
  }

  /** Draws the next figure, or all of them at the end. */
  #draw(areAll = false): void {
    const start = performance.now();
    if ((start < this.#nextPicture && !areAll) || this.#reports.length === 0) return;
    const record = this.record();
    const drawings = runDrawings(record);
    const chosen = areAll ? drawings : [drawings[this.#pictures++ % drawings.length]!];
    for (const draw of chosen) {
      const picture = draw();
      if (picture) this.options.emit({ type: "picture", picture });
    }
    const end = performance.now();
    this.#nextPicture = end + Math.max(PICTURE_MS, PICTURE_SHARE * (end - start));
  }

  /** Saves a checkpoint. Where the storage refuses it, the run goes on without. */
  async #save(isAsked = false): Promise<void> {
    const { checkpoints, emit } = this.options;
    this.#lastCheckpoint = performance.now();
    if (!checkpoints || (this.#isStorageFull && !isAsked)) return;
    try {
      await this.trainer.saveCheckpoint();
      this.#isStorageFull = false;
      if (isAsked) emit({ type: "progress", text: `Saved after step ${this.trainer.progress.step}.` });
    } catch (error) {
      if (!(error instanceof SafetapeError)) throw error;
      this.#isStorageFull = true;
      emit({ type: "notice", text: `The run goes on, but is not saved. ${error.fact} ${error.remedy}` });
    }
  }

  #extra(): CheckpointExtra {
    const { table, bits } = packReports(this.#reports);
    const record = { table, before: this.#before, evaluations: this.#evaluations };
    return { record, tensors: new Map([["reports", bits]]) };
  }

  #restore(): void {
    const { resumed } = this.trainer;
    if (!resumed) return;
    const { record, tensors } = resumed.extra;
    const { table, before, evaluations } = checkSchema(EXTRA, record, resumed.file);
    const bits = tensors?.get("reports");
    if (bits) this.#reports.push(...unpackReports(table, bits));
    for (const report of this.#reports) this.#log.add(report);
    this.#before = before;
    this.#evaluations = evaluations;
  }

  dispose(): void {
    this.trainer.dispose();
    this.loaded.dispose();
  }
}

const breathing = new MessageChannel();

/** Lets messages in. A timer would be slowed down in a hidden tab. */
const breath = (): Promise<void> =>
  new Promise((resolve) => {
    breathing.port1.onmessage = () => resolve();
    breathing.port2.postMessage(undefined);
  });

/** Counts [label, prediction]; nothing for labels that are not classes of the data. */
function confusionOf({ predictions, labels }: Evaluation, classes: number): number[][] {
  if (classes === 0) return [];
  const counts = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  predictions.forEach((prediction, i) => {
    const row = counts[labels[i]!];
    if (row?.[prediction] !== undefined) row[prediction]++;
  });
  return counts;
}
