import { LIFETIMES, sumBytes } from "../../gpu/ledger";
import type { Bytes } from "../../gpu/ledger";
import { significant } from "../../report/units";
import type { StepReport } from "../../train/loop/reports";
import type { TrainableSpec } from "../../train/tensors/specs";
import { bar, clock, layerRow, megabytes, memoryBar, memoryWords, total } from "./bars";
import type { Emit } from "./events";
import type { Screen } from "./screen";

/** Steps whose mean time tells how long the rest will take: freezing makes later ones faster. */
const RECENT = 20;
const SMOOTHING = 0.9;
/** Lines of a whole run outside of a terminal. */
const LINES = 20;
const PART = "run";

/** Shows a run step by step: a live block in a terminal, a line every so often elsewhere, events for machines. */
export class RunView {
  readonly #layers = new Map<number, string[]>();
  readonly #frozen = new Set<string>();
  readonly #recent: number[] = [];
  #loss: number | undefined;
  #most = 0;
  #shape = "";
  #saidFreeze = -Infinity;

  constructor(
    private readonly screen: Screen,
    private readonly emit: Emit,
    /** Every tensor that the run trains, by name. */
    private readonly trained: ReadonlyMap<string, Pick<TrainableSpec, "layer">>,
  ) {
    for (const [name, { layer }] of trained) {
      if (layer !== undefined) this.#layers.set(layer, [...(this.#layers.get(layer) ?? []), name]);
    }
  }

  show(report: StepReport): void {
    const { freezes, skipped, scores: _, horizon, prefix, ...step } = report;
    for (const skip of skipped) this.#skip(skip);
    this.#loss = this.#loss === undefined ? step.loss : SMOOTHING * this.#loss + (1 - SMOOTHING) * step.loss;
    this.#most = Math.max(this.#most, sumBytes(step.bytes));
    this.#recent.push(step.seconds);
    if (this.#recent.length > RECENT) this.#recent.shift();
    this.emit({ type: "step", ...step, ...(horizon !== undefined && { horizon }), ...(prefix && { prefix }) });
    for (const freeze of freezes) this.#freeze(freeze, step.totalSteps);
    this.#stepShape(report);
    if (this.screen.isLive) this.screen.show(PART, this.block(report));
    else if (step.step === step.totalSteps || step.step % Math.max(1, Math.ceil(step.totalSteps / LINES)) === 0)
      this.screen.say(`${step.step}/${step.totalSteps}  ${this.#words(report)}`);
  }

  /** The live block: how far, how well, how much memory, which layers are frozen. */
  block({ step, totalSteps, epoch, bytes, examplesPerSecond, learningRate, horizon, prefix }: StepReport): string[] {
    const { colours, columns } = this.screen;
    const width = Math.max(10, Math.min(40, columns - 50));
    const seconds = this.#recent.reduce((sum, value) => sum + value, 0) / this.#recent.length;
    const left = clock(seconds * (totalSteps - step));
    const percent = Math.floor((100 * step) / totalSteps);
    return [
      `${colours.bold("step  ")} ${bar(step / totalSteps, width)} ${step}/${totalSteps} ${percent} %  ${left} left  epoch ${epoch.toFixed(2)}`,
      `${colours.bold("loss  ")} ${(this.#loss ?? NaN).toFixed(4)}  ${examplesPerSecond.toFixed(1)} examples/s  ` +
        `${seconds.toFixed(2)} s/step  learning rate ${significant(learningRate)}`,
      `${colours.bold("memory")} ${memoryBar(bytes, this.#most, width, colours)} ${total(bytes)} of at most ${megabytes(this.#most)}`,
      `       ${memoryWords(bytes, colours)}`,
      `${colours.bold("layers")} ${layerRow(this.#layers, this.#frozen)}  ` +
        `${this.#frozen.size} of ${this.trained.size} tensors frozen  horizon ${horizon ?? "head"}` +
        (prefix ? `  kept ${megabytes(prefix.bytes)}` : ""),
    ];
  }

  #words({ examplesPerSecond, bytes, horizon, frozenTensors, prefix }: StepReport): string {
    return (
      `loss ${(this.#loss ?? NaN).toFixed(4)}  ${examplesPerSecond.toFixed(1)} examples/s  ${memoryOf(bytes)}  ` +
      `horizon ${horizon ?? "head"}  frozen ${frozenTensors}` +
      (prefix ? `  kept ${megabytes(prefix.bytes)}` : "")
    );
  }

  #freeze(freeze: StepReport["freezes"][number], totalSteps: number): void {
    const { step, layers, tensors, returnedBytes } = freeze;
    tensors.forEach((name) => this.#frozen.add(name));
    this.emit({ type: "freeze", ...freeze, tensors: [...tensors], layers: [...layers] });
    // Policies that freeze tensor by tensor would fill the screen.
    if (layers.length === 0 && step - this.#saidFreeze < totalSteps / LINES) return;
    this.#saidFreeze = step;
    const adapters = layers.length === 1 ? "the adapter of layer" : "the adapters of layers";
    const what = layers.length > 0 ? `${adapters} ${layers.join(", ")}` : `${tensors.length} tensors`;
    this.screen.say(`step ${step}: froze ${what}; ${megabytes(returnedBytes)} returned`);
  }

  #skip(skip: StepReport["skipped"][number]): void {
    this.emit({ type: "skip", ...skip });
    this.screen.say(`after step ${skip.step}: a batch was passed over, its ${skip.what} is ${skip.value}`);
  }

  /** Freed memory lets more rows run at once, and less run again; a frozen prefix need not run. */
  #stepShape({ step, rowsAtOnce, recomputed, prefix }: StepReport): void {
    const again = recomputed === 0 ? "nothing" : `${recomputed} parts`;
    const from = prefix ? `, begun at layer ${prefix.layer}` : "";
    const shape = `${rowsAtOnce} rows at once, ${again} run again${from}`;
    if (this.#shape !== "" && this.#shape !== shape) this.screen.say(`step ${step}: ${shape} from now on`);
    this.#shape = shape;
  }

  evaluated(step: number, metrics: Readonly<Record<string, number>>): void {
    this.emit({ type: "evaluation", step, metrics: { ...metrics } });
    const told = Object.entries(metrics).map(([name, value]) => `${name} ${value.toFixed(4)}`);
    this.screen.say(`evaluated: ${told.join("  ")}  (step ${step})`);
  }

  stop(): void {
    this.screen.end();
  }
}

const memoryOf = (bytes: Bytes): string =>
  LIFETIMES.map((lifetime) => `${lifetime} ${megabytes(bytes[lifetime])}`).join(" ");
