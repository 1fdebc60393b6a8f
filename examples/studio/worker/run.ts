// A run: trains, evaluates, draws, and keeps itself in the browser's storage so that it goes on after a reload.
import * as v from "valibot";
import { SafetapeError } from "../../../src/base/errors";
import type { Tensors } from "../../../src/adapter/adapter";
import type { Batch } from "../../../src/data/batch";
import { accuracy, perplexity } from "../../../src/data/metrics";
import type { Engine } from "../../../src/engine";
import type { AdapterWeights } from "../../../src/generate/weights";
import type { Directory } from "../../../src/io/directory";
import { checkSchema } from "../../../src/io/json";
import { loadModel } from "../../../src/io/load-model";
import type { LoadedModel } from "../../../src/io/load-model";
import type { FloatTensor, HostTensor } from "../../../src/io/safetensors";
import { packReports, unpackReports } from "../../../src/cli/report-table";
import { RunLog } from "../../../src/report/run-log";
import type { RunRecord } from "../../../src/report/record";
import type { Evaluation } from "../../../src/train/evaluate";
import type { StepReport } from "../../../src/train/loop/reports";
import { EarlyStopping } from "../../../src/train/early-stopping";
import type { CheckpointExtra } from "../../../src/train/options";
import { Trainer } from "../../../src/train/trainer";
import { version } from "../../../package.json";
import type { World, WorldMember } from "../../../src/train/world";
import type { EvaluationFacts, Metrics, PlanForm, RunFacts, StudioEvent, Together } from "../protocol";
import type { StudioData } from "./data";
import { StorageFullError } from "./directories";
import { runDrawings } from "./pictures";
import { adapterOf, policyOf, trainerSettings } from "./plan";

/** Evaluations in the course of a run. */
export const EVALUATIONS = 8;
/** Milliseconds between two checkpoints, after one that the storage refused, and between two reports to the page. */
const CHECKPOINT_MS = 5_000;
const REFUSED_MS = 60_000;
const REPORT_MS = 100;
/** A figure is drawn at most so often, one after the other, and takes at most a tenth of the time. */
const PICTURE_MS = 300;
const PICTURE_SHARE = 10;
/** Steps over which the time that is left is estimated. */
const RECENT = 20;
/** Steps of a measurement; the first of them compile kernels. */
const MEASURED_STEPS = 4;
/** Names of a checkpoint's tensors: the steps' reports, and those of the best evaluation. */
const REPORTS = "reports";
const BEST = "best ";

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
  /** The run of several devices that this one takes part in; undefined to train alone. */
  readonly together?: Together | undefined;
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

/** What the user asked of a run, also while it is still opened. A run obeys between two steps. */
export class RunControl {
  #isStopping = false;
  #gate: { readonly open: () => void; readonly opened: Promise<void> } | undefined;

  get isStopping(): boolean {
    return this.#isStopping;
  }

  /** Resolves when the run may go on; undefined where it is not paused. */
  get paused(): Promise<void> | undefined {
    return this.#gate?.opened;
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
}

export class Run {
  readonly #reports: StepReport[] = [];
  readonly #log = new RunLog();
  #before: Metrics = {};
  #after: Metrics = {};
  #confusion: readonly (readonly number[])[] = [];
  #evaluations: { step: number; metrics: Metrics }[] = [];
  readonly #best: EarlyStopping;
  /** The tensors after the last step, while the trainer has those of the best evaluation. */
  #last: Tensors | undefined;
  #weights: AdapterWeights | undefined;
  #hasFailed = false;
  /** Whether it is no more among the devices that it trained with: it cannot go on. */
  #hasLeft = false;
  #nextCheckpoint = performance.now() + CHECKPOINT_MS;
  #nextPicture = 0;
  /** Figures drawn so far: each time the next one is. */
  #pictures = 0;
  /** Whether the storage refused the last checkpoint, which is told once. */
  #isRefused = false;

  private constructor(
    private readonly options: RunOptions,
    readonly loaded: LoadedModel,
    readonly trainer: Trainer,
    private readonly member: WorldMember | undefined,
  ) {
    // It keeps the best tensors, and never stops a run.
    this.#best = new EarlyStopping(trainer, { patience: Infinity });
  }

  static async open(options: RunOptions): Promise<Run> {
    const { engine, data, form, checkpoints, isResumed, together, emit } = options;
    emit({ type: "progress", text: "Loading weights ..." });
    const loaded = await loadModel(engine, data.directory, {
      ...data.head,
      weights: form.weights,
      onProgress: (done, of) => emit({ type: "progress", text: `Loading weights: ${Math.floor((100 * done) / of)} %` }),
    });
    let run: Run | undefined;
    try {
      emit({ type: "progress", text: "Planning the run ..." });
      const loss = data.loss(form.length);
      let member: WorldMember | undefined;
      const distributed = together && (await worldOf(together, (entered) => (member = entered)));
      if (together) emit({ type: "progress", text: `Entering the run ${together.run} ...` });
      const trainer = await Trainer.create({
        model: loaded,
        adapter: adapterOf(form),
        policy: policyOf(form),
        data: data.trainBatches(form.batch, form.length, form.seed),
        ...trainerSettings(form),
        ...(loss && { loss }),
        onNotFinite: "skip",
        warn: (text) => emit({ type: "notice", text }),
        ...(distributed && { distributed }),
        ...(checkpoints && {
          checkpoints: { directory: checkpoints, every: 0, keep: 1, resume: isResumed, extra: () => run!.#extra() },
        }),
      });
      run = new Run(options, loaded, trainer, member);
      run.#restore();
      return run;
    } catch (error) {
      loaded.dispose();
      throw error;
    }
  }

  /** Seconds of a step, from a few steps of which nothing is kept. */
  static async measure(options: Omit<RunOptions, "checkpoints" | "isResumed" | "together">): Promise<number> {
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

  /** Trains until the end, or until it is stopped, and may be called again to go on. @throws what the trainer throws; the last checkpoint stays. */
  async train(control: RunControl): Promise<RunFacts> {
    try {
      return await this.#train(control);
    } catch (error) {
      this.#hasFailed = true;
      throw error;
    }
  }

  /** Whether training failed, so that the run must be opened again. */
  get hasFailed(): boolean {
    return this.#hasFailed;
  }

  async #train(control: RunControl): Promise<RunFacts> {
    const { emit, form, data } = this.options;
    const { trainer } = this;
    const dev = data.devBatches(form.batch, form.length);
    await this.#goBackToLast();
    const { step: done, totalSteps } = trainer.progress;
    if (dev && done === 0 && Object.keys(this.#before).length === 0) {
      emit({ type: "progress", text: "Evaluating the model before training ..." });
      this.#before = metricsOf(await trainer.evaluate(dev()));
    }
    // The others would wait meanwhile.
    const every = this.member ? Infinity : Math.max(1, Math.ceil(totalSteps / EVALUATIONS));
    const recent: number[] = [];
    let [last, lastReport] = [performance.now(), 0];
    let { device } = trainer.options.model.engine;
    emit({ type: "progress", text: "Training; the first step compiles kernels ..." });
    const steps = trainer.steps();
    while (!(await this.#isToStop(control))) {
      const { value: report } = await steps.next();
      if (!report) break;
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
      if (dev && step % every === 0 && step < totalSteps) await this.#evaluate(dev);
      this.#draw();
      if (now > this.#nextCheckpoint) await this.#save();
      // Messages of the page, such as to pause, arrive while nothing else runs here.
      await breath();
    }
    return this.#finish(dev);
  }

  /** Whether the user asked the run to stop; waits while it is paused. */
  async #isToStop(control: RunControl): Promise<boolean> {
    const { emit } = this.options;
    if (control.paused) {
      await this.#save(true);
      emit({ type: "progress", text: `Paused after step ${this.trainer.progress.step}.` });
      await control.paused;
      emit({ type: "progress", text: "Going on ..." });
    }
    return control.isStopping;
  }

  /** Evaluates after the last step, and keeps the tensors if they are the best so far. */
  async #evaluate(dev: () => Iterable<Batch>): Promise<Evaluation> {
    const evaluation = await this.trainer.evaluate(dev());
    const { step } = this.trainer.progress;
    const metrics = metricsOf(evaluation);
    this.#evaluations.push({ step, metrics });
    await this.#best.add(this.#badness(metrics));
    this.options.emit({ type: "evaluated", step, metrics });
    return evaluation;
  }

  /** What the best evaluation has the least of: wrong answers and, among equally many, loss, which is below 1 here. */
  #badness({ accuracy: share, loss = NaN }: Metrics): number {
    if (share === undefined) return loss;
    const wrong = Math.round((1 - share) * this.options.data.facts.dev);
    return wrong + loss / (1 + loss);
  }

  async #finish(dev: (() => Iterable<Batch>) | undefined): Promise<RunFacts> {
    const { emit, data } = this.options;
    const { step } = this.trainer.progress;
    await this.member?.leave();
    this.#hasLeft = this.member !== undefined;
    emit({ type: "progress", text: "Evaluating ..." });
    const isNew = this.#evaluations.at(-1)?.step !== step;
    let evaluation = dev && isNew ? await this.#evaluate(dev) : undefined;
    // A run that goes on does so from its last step.
    await this.#save(true);
    if (this.#best.best && this.#best.best.step !== step) {
      this.#last = await this.trainer.snapshot();
      await this.#best.restoreBest();
      evaluation = undefined;
    }
    if (dev) {
      evaluation ??= await this.trainer.evaluate(dev());
      this.#after = metricsOf(evaluation);
      this.#confusion = confusionOf(evaluation, data.labelNames.length);
    }
    this.#weights = undefined;
    this.#draw(true);
    return this.facts;
  }

  async #goBackToLast(): Promise<void> {
    if (this.#last) await this.trainer.restore(this.#last);
    this.#last = undefined;
  }

  get facts(): RunFacts {
    const { step, totalSteps } = this.trainer.progress;
    const bestStep = this.#best.best?.step;
    return {
      step,
      totalSteps,
      hasEnded: step >= totalSteps || this.#hasLeft,
      before: this.#before,
      after: this.#after,
      bestStep,
    };
  }

  get evaluation(): EvaluationFacts {
    const { labelNames } = this.options.data;
    return { before: this.#before, after: this.#after, labels: labelNames, confusion: this.#confusion };
  }

  /** The run so far, as its report is drawn from it. */
  record(): RunRecord {
    const { data, form } = this.options;
    return this.#log.record(this.trainer, {
      title: `${form.adapter === "lora" ? "LoRA" : "DoRA"}${form.freeze === "safe" ? " with SAFE" : ""} on ${data.facts.trainFile}`,
      task: data.mapping.task,
      options: { ...form },
      metrics: this.#after,
      evaluations: this.#evaluations,
      bestStep: this.#best.best?.step,
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
    if (!checkpoints) return;
    try {
      await this.trainer.saveCheckpoint();
      this.#isRefused = false;
      if (isAsked) emit({ type: "progress", text: `Saved after step ${this.trainer.progress.step}.` });
    } catch (error) {
      if (!(error instanceof SafetapeError)) throw error;
      const text = `The run goes on, but is not saved. ${error.fact} ${error.remedy}`;
      if (!this.#isRefused) emit({ type: "notice", text, isStorageFull: error instanceof StorageFullError });
      this.#isRefused = true;
    }
    this.#nextCheckpoint = performance.now() + (this.#isRefused ? REFUSED_MS : CHECKPOINT_MS);
  }

  #extra(): CheckpointExtra {
    const { table, bits } = packReports(this.#reports);
    const record = { table, before: this.#before, evaluations: this.#evaluations };
    const best = [...this.#best.bestTensors].map(([name, tensor]) => [`${BEST}${name}`, tensor] as const);
    return { record, tensors: new Map([[REPORTS, bits], ...best]) };
  }

  #restore(): void {
    const { resumed } = this.trainer;
    if (!resumed) return;
    const { record, tensors = new Map<string, HostTensor>() } = resumed.extra;
    const { table, before, evaluations } = checkSchema(EXTRA, record, resumed.file);
    const bits = tensors.get(REPORTS);
    if (bits) this.#reports.push(...unpackReports(table, bits));
    for (const report of this.#reports) this.#log.add(report);
    this.#before = before;
    this.#evaluations = evaluations;
    const best = new Map<string, FloatTensor>();
    for (const [name, { shape, data }] of tensors) {
      if (name.startsWith(BEST) && data instanceof Float32Array) best.set(name.slice(BEST.length), { shape, data });
    }
    const judged = evaluations.map(({ step, metrics }) => ({ step, value: this.#badness(metrics) }));
    this.#best.resume(judged, best);
  }

  dispose(): void {
    this.trainer.dispose();
    this.loaded.dispose();
  }
}

/** A run of several devices. NATS' client is loaded with the first one. @param onEntered receives the device's place in it. */
async function worldOf(together: Together, onEntered: (member: WorldMember) => void): Promise<World> {
  const { join } = await import("../../../src/entry/distributed");
  const world = join(together);
  const enter: World["enter"] = async (run) => {
    const member = await world.enter(run);
    onEntered(member);
    return member;
  };
  return { ...world, enter };
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
