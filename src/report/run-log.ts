import { sumBytes } from "../gpu/ledger";
import type { SkippedStep, StepReport } from "../train/loop/reports";
import { parametersOutsideHead, trainableSpecs } from "../train/tensors/specs";
import type { Trainer } from "../train/trainer";
import type { RunCompaction, RunFreeze, RunRecord, RunScores, RunStep, RunTriedRate } from "./record";
import { settingsOf } from "./settings";

/** Facts about a run that its trainer does not know. */
export interface RunFacts {
  readonly title: string;
  readonly task?: string;
  readonly command?: string;
  readonly options?: Readonly<Record<string, unknown>>;
  readonly metrics?: Readonly<Record<string, number>>;
  readonly evaluations?: readonly { readonly step: number; readonly metrics: Readonly<Record<string, number>> }[];
  /** Step of the best evaluation, whose tensors are saved. */
  readonly bestStep?: number | undefined;
  /** Learning rates that were tried before the run, with the metrics of their short runs. */
  readonly triedRates?: readonly RunTriedRate[] | undefined;
  /** As `startDeviation` gives it. */
  readonly startDeviation?: number | undefined;
  readonly versions?: Readonly<Record<string, string>>;
}

/** Most decisions whose scores are kept: a policy may score hundreds of matrices after each of many thousand steps. */
const MOST_SCORES = 200;

/** Collects the record of a run, step by step. */
export class RunLog {
  readonly steps: RunStep[] = [];
  readonly freezes: RunFreeze[] = [];
  readonly compactions: RunCompaction[] = [];
  readonly skipped: SkippedStep[] = [];
  #scores: RunScores[] = [];
  /** Decisions with scores so far, kept or not. */
  #decisions = 0;
  #stride = 1;

  /** Adds the report of a step. */
  add(report: StepReport): void {
    const { scores, freezes, compaction, skipped, prefix: _, totalSteps: _total, horizon, ...step } = report;
    this.steps.push({ ...step, ...(horizon !== undefined && { horizon }) });
    for (const freeze of freezes) {
      this.freezes.push({ ...freeze, tensors: [...freeze.tensors], layers: [...freeze.layers] });
    }
    if (compaction) this.compactions.push(compaction);
    this.skipped.push(...skipped);
    if (scores) this.#addScores({ step: report.step, kind: scores.kind, values: { ...scores.values } });
  }

  /** Keeps every n-th decision, with an n that doubles when there are too many. */
  #addScores(scores: RunScores): void {
    if (this.#decisions++ % this.#stride !== 0) return;
    this.#scores.push(scores);
    if (this.#scores.length <= MOST_SCORES) return;
    this.#scores = this.#scores.filter((_, i) => i % 2 === 0);
    this.#stride *= 2;
  }

  /** The record's `parameters`; undefined where a resumed run has steps that were not counted. */
  #parameters({ options }: Trainer): RunRecord["parameters"] {
    const counts = this.steps.flatMap(({ liveParameters = [] }) => liveParameters);
    if (counts.length === 0 || counts.length < this.steps.length) return undefined;
    const total = counts.reduce((sum, count) => sum + count, 0);
    // Those of the beginning: a run that prunes the model has fewer in the end.
    const { completeModel } = options.model;
    const trained = parametersOutsideHead(completeModel, trainableSpecs(completeModel, options.adapter));
    return { trained, averageLive: total / counts.length };
  }

  /** The record of the run so far. */
  record(
    trainer: Trainer,
    { metrics = {}, evaluations = [], versions = {}, triedRates, ...facts }: RunFacts,
  ): RunRecord {
    const { model: loaded } = trainer.options;
    const { info, kernels } = loaded.engine;
    const { family, layers, task } = loaded.model;
    const parameters = this.#parameters(trainer);
    const last = this.steps.at(-1);
    return {
      format: 1,
      created: new Date().toISOString(),
      ...facts,
      ...(triedRates && { triedRates: [...triedRates] }),
      model: { source: loaded.source, family, layers, task },
      settings: settingsOf(trainer),
      gpu: { ...info },
      versions: { ...versions },
      metrics: { ...metrics },
      evaluations: evaluations.map((evaluation) => ({ step: evaluation.step, metrics: { ...evaluation.metrics } })),
      peakBytes: sumBytes(trainer.peak),
      peak: trainer.peak,
      endBytes: last ? sumBytes(last.bytes) : 0,
      stepsPerEpoch: trainer.progress.stepsPerEpoch,
      seconds: this.steps.reduce((sum, { seconds }) => sum + seconds, 0),
      flops: this.steps.reduce((sum, { flops }) => sum + flops, 0),
      trained: [...trainer.state.specs.keys()],
      trainedLayers: [...trainer.state.specs.values()].map(({ layer }) => (typeof layer === "number" ? layer : null)),
      ...(parameters && { parameters }),
      steps: this.steps,
      freezes: this.freezes,
      compactions: this.compactions,
      skipped: this.skipped,
      scores: this.#scores,
      policy: { ...trainer.policyRecord() },
      kernels: Object.fromEntries(kernels.map(({ shape, chosen }) => [shape, chosen])),
      initialised: [...loaded.initialised],
    };
  }
}
