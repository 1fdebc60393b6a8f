import { LIFETIMES, sumBytes } from "../../gpu/ledger";
import type { Bytes } from "../../gpu/ledger";
import { clock, significant } from "../../report/units";
import type { StepReport } from "../../train/loop/reports";
import type { TrainableSpec } from "../../train/tensors/specs";
import { bar, layerRow, megabytes, memoryBar, memoryWords, totalMegabytes } from "./bars";
import type { Emit } from "./events";
import type { Screen } from "./screen";

/** Recent steps whose mean time predicts the time left. Freezing makes steps faster, so that older ones do not count. */
const RECENT_STEPS = 20;
/** Weight of the past in the moving average of the loss. */
const SMOOTHING = 0.9;
/** Lines that show the steps of a run outside a terminal. */
const LINES = 20;
/** Name of this view's part of the screen. */
const PART = "run";

/** Shows a run step by step: as a live block in a terminal, as lines elsewhere, and as events for programs. */
export class RunView {
  /** Names of the trained tensors by layer. */
  readonly #layers = new Map<number, string[]>();
  readonly #frozen = new Set<string>();
  /** Seconds of recent steps. */
  readonly #recent: number[] = [];
  #smoothedLoss: number | undefined;
  #peakBytes = 0;
  /** How steps run, in words. */
  #execution = "";
  #lastFreezeLine = -Infinity;

  constructor(
    private readonly screen: Screen,
    private readonly emit: Emit,
    /** The trained tensors by name. */
    private readonly trained: ReadonlyMap<string, Pick<TrainableSpec, "layer">>,
  ) {
    for (const [name, { layer }] of trained) {
      if (typeof layer === "number") this.#layers.set(layer, [...(this.#layers.get(layer) ?? []), name]);
    }
  }

  show(report: StepReport): void {
    const { freezes, compaction, skipped, scores: _, horizon, prefix, ...numbers } = report;
    const { step, totalSteps, loss, bytes, seconds } = numbers;
    for (const skip of skipped) this.#showSkip(skip);
    const past = this.#smoothedLoss;
    this.#smoothedLoss = past === undefined ? loss : SMOOTHING * past + (1 - SMOOTHING) * loss;
    this.#peakBytes = Math.max(this.#peakBytes, sumBytes(bytes));
    this.#recent.push(seconds);
    if (this.#recent.length > RECENT_STEPS) this.#recent.shift();
    this.emit({ type: "step", ...numbers, ...(horizon !== undefined && { horizon }), ...(prefix && { prefix }) });
    for (const freeze of freezes) this.#showFreeze(freeze, totalSteps);
    if (compaction) this.#showCompaction(compaction);
    this.#showExecution(report);
    if (this.screen.isLive) this.screen.show(PART, this.#block(report));
    else if (step === totalSteps || step % Math.max(1, Math.ceil(totalSteps / LINES)) === 0)
      this.screen.say(`${step}/${totalSteps}  ${this.#line(report)}`);
  }

  /** The live block: progress, loss, memory, and which layers are frozen. */
  #block({ step, totalSteps, epoch, bytes, examplesPerSecond, learningRate, horizon, prefix }: StepReport): string[] {
    const { colours, columns } = this.screen;
    const width = Math.max(10, Math.min(40, columns - 50));
    const seconds = this.#recent.reduce((sum, value) => sum + value, 0) / this.#recent.length;
    const left = clock(seconds * (totalSteps - step));
    const percent = Math.floor((100 * step) / totalSteps);
    return [
      `${colours.bold("step  ")} ${bar(step / totalSteps, width)} ${step}/${totalSteps} ${percent} %  ${left} left  epoch ${epoch.toFixed(2)}`,
      `${colours.bold("loss  ")} ${(this.#smoothedLoss ?? NaN).toFixed(4)}  ${examplesPerSecond.toFixed(1)} examples/s  ` +
        `${seconds.toFixed(2)} s/step  learning rate ${significant(learningRate)}`,
      `${colours.bold("memory")} ${memoryBar(bytes, this.#peakBytes, width, colours)} ${totalMegabytes(bytes)} of at most ${megabytes(this.#peakBytes)}`,
      `       ${memoryWords(bytes, colours)}`,
      `${colours.bold("layers")} ${layerRow(this.#layers, this.#frozen)}  ` +
        `${this.#frozen.size} of ${this.trained.size} tensors frozen  horizon ${horizon ?? "head"}` +
        (prefix ? `  cached ${megabytes(prefix.bytes)}` : ""),
    ];
  }

  #line({ examplesPerSecond, bytes, horizon, frozenTensors, prefix }: StepReport): string {
    return (
      `loss ${(this.#smoothedLoss ?? NaN).toFixed(4)}  ${examplesPerSecond.toFixed(1)} examples/s  ${memoryOf(bytes)}  ` +
      `horizon ${horizon ?? "head"}  frozen ${frozenTensors}` +
      (prefix ? `  cached ${megabytes(prefix.bytes)}` : "")
    );
  }

  /** Says that the run ends before its last step, and which state is kept. */
  stoppedEarly(step: number, bestStep = step): void {
    this.screen.say(`stopped after step ${step}: the loss has not fallen since step ${bestStep}, whose state is kept`);
  }

  #showFreeze(freeze: StepReport["freezes"][number], totalSteps: number): void {
    const { step, layers, tensors, returnedBytes } = freeze;
    tensors.forEach((name) => this.#frozen.add(name));
    this.emit({ type: "freeze", ...freeze, tensors: [...tensors], layers: [...layers] });
    // A policy that freezes single tensors would fill the screen.
    if (layers.length === 0 && step - this.#lastFreezeLine < totalSteps / LINES) return;
    this.#lastFreezeLine = step;
    const adapters = layers.length === 1 ? "the adapter of layer" : "the adapters of layers";
    const what = layers.length > 0 ? `${adapters} ${layers.join(", ")}` : `${tensors.length} tensors`;
    this.screen.say(`step ${step}: froze ${what}; ${megabytes(returnedBytes)} returned`);
  }

  #showCompaction(compaction: NonNullable<StepReport["compaction"]>): void {
    const { step, heads, neurons, returnedBytes } = compaction;
    this.emit({ type: "compaction", ...compaction });
    this.screen.say(
      `step ${step}: ${heads} groups of heads and ${neurons} neurons are cut out; ${megabytes(returnedBytes)} returned`,
    );
  }

  #showSkip(skip: StepReport["skipped"][number]): void {
    this.emit({ type: "skip", ...skip });
    this.screen.say(`after step ${skip.step}: skipped a batch because its ${skip.what} is ${skip.value}`);
  }

  /** Shows when steps begin to run differently: freed memory allows larger micro-batches and less recomputation. */
  #showExecution({ step, rowsAtOnce, recomputed, prefix }: StepReport): void {
    const parts = recomputed === 0 ? "nothing" : `${recomputed} parts`;
    const start = prefix ? `, starting at layer ${prefix.layer}` : "";
    const execution = `${rowsAtOnce} rows at a time, ${parts} recomputed${start}`;
    if (this.#execution !== "" && this.#execution !== execution) this.screen.say(`from step ${step} on: ${execution}`);
    this.#execution = execution;
  }

  /** Shows the metrics of an evaluation after a step. */
  evaluated(step: number, metrics: Readonly<Record<string, number>>): void {
    this.emit({ type: "evaluation", step, metrics: { ...metrics } });
    this.screen.say(`evaluated: ${metricWords(metrics)}  (step ${step})`);
  }

  stop(): void {
    this.screen.end();
  }
}

/** Metrics in words: `accuracy 0.9000  loss 0.3000`. */
export const metricWords = (metrics: Readonly<Record<string, number>>): string =>
  Object.entries(metrics)
    .map(([name, value]) => `${name} ${value.toFixed(4)}`)
    .join("  ");

const memoryOf = (bytes: Bytes): string =>
  LIFETIMES.map((lifetime) => `${lifetime} ${megabytes(bytes[lifetime])}`).join(" ");
