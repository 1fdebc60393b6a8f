import { sumBytes } from "../gpu/ledger";
import type { SkippedStep, StepReport } from "../train/loop/reports";
import type { Trainer } from "../train/trainer";
import type { RunFreeze, RunRecord, RunScores, RunStep } from "./record";
import { settingsOf } from "./settings";

/** What a trainer does not know of its run. */
export interface RunFacts {
  readonly title: string;
  readonly task?: string;
  readonly command?: string;
  readonly options?: Readonly<Record<string, unknown>>;
  readonly metrics?: Readonly<Record<string, number>>;
  readonly evaluations?: readonly { readonly step: number; readonly metrics: Readonly<Record<string, number>> }[];
  readonly versions?: Readonly<Record<string, string>>;
}

/** Decisions whose scores are kept: a policy may look at hundreds of matrices after every one of many thousand steps. */
const MOST_SCORES = 200;

/** Gathers a run's record, step by step. */
export class RunLog {
  readonly steps: RunStep[] = [];
  readonly freezes: RunFreeze[] = [];
  readonly skipped: SkippedStep[] = [];
  #scores: RunScores[] = [];
  #scored = 0;
  #stride = 1;

  add(report: StepReport): void {
    const { scores, freezes, skipped, prefix: _, totalSteps: _total, horizon, ...step } = report;
    this.steps.push({ ...step, ...(horizon !== undefined && { horizon }) });
    this.freezes.push(...freezes.map((freeze) => ({ ...freeze, ...listsOf(freeze) })));
    this.skipped.push(...skipped);
    if (scores) this.#keep({ step: report.step, kind: scores.kind, values: { ...scores.values } });
  }

  /** Keeps every n-th decision, so that they are evenly spread and never too many. */
  #keep(scores: RunScores): void {
    if (this.#scored++ % this.#stride !== 0) return;
    this.#scores.push(scores);
    if (this.#scores.length <= MOST_SCORES) return;
    this.#scores = this.#scores.filter((_, i) => i % 2 === 0);
    this.#stride *= 2;
  }

  /** The record of a trainer's run as it stands. */
  record(trainer: Trainer, { metrics = {}, evaluations = [], versions = {}, ...facts }: RunFacts): RunRecord {
    const { model: loaded } = trainer.options;
    const { info, kernels } = loaded.engine;
    const { family, layers, task } = loaded.model;
    return {
      format: 1,
      created: new Date().toISOString(),
      ...facts,
      model: { source: loaded.source, family, layers, task },
      settings: settingsOf(trainer),
      gpu: { ...info },
      versions: { ...versions },
      metrics: { ...metrics },
      evaluations: evaluations.map(({ step, metrics: found }) => ({ step, metrics: { ...found } })),
      peakBytes: sumBytes(trainer.peak),
      peak: trainer.peak,
      stepsPerEpoch: trainer.progress.stepsPerEpoch,
      seconds: this.steps.reduce((sum, { seconds }) => sum + seconds, 0),
      flops: this.steps.reduce((sum, { flops }) => sum + flops, 0),
      trained: [...trainer.state.specs.keys()],
      trainedLayers: [...trainer.state.specs.values()].map(({ layer }) => layer ?? null),
      steps: this.steps,
      freezes: this.freezes,
      skipped: this.skipped,
      scores: this.#scores,
      policy: { ...trainer.policyRecord() },
      kernels: Object.fromEntries(kernels.map(({ shape, chosen }) => [shape, chosen])),
      initialised: [...loaded.initialised],
    };
  }
}

const listsOf = ({ tensors, layers }: StepReport["freezes"][number]) => ({
  tensors: [...tensors],
  layers: [...layers],
});
