import { SingleBar } from "cli-progress";
import { LIFETIMES } from "../gpu/ledger";
import type { Bytes } from "../gpu/ledger";
import type { FreezeEvent, SkippedStep, StepReport } from "../train/report";

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

/** A run's progress: a bar in a terminal, a line every so often elsewhere, nothing when quiet. All of it on stderr. */
export class ProgressView {
  #bar: SingleBar | undefined;
  #loss: number | undefined;
  #shape = "";

  constructor(private readonly isQuiet: boolean) {}

  show(report: StepReport): void {
    for (const freeze of report.freezes) this.#freeze(freeze);
    if (this.isQuiet) return;
    for (const skip of report.skipped) this.#skip(skip);
    this.#loss = this.#loss === undefined ? report.loss : 0.9 * this.#loss + 0.1 * report.loss;
    this.#stepShape(report);
    const { step, totalSteps, examplesPerSecond, bytes, horizon, frozenTensors, prefix } = report;
    const told =
      `loss ${this.#loss.toFixed(4)}  ${examplesPerSecond.toFixed(1)} examples/s  ${memoryOf(bytes)}  ` +
      `horizon ${horizon ?? "head"}  frozen ${frozenTensors}` +
      (prefix ? `  kept ${megabytes(prefix.bytes)}` : "");
    if (process.stderr.isTTY) this.#drawBar(step, totalSteps, told);
    else if (step === totalSteps || step % Math.max(1, Math.floor(totalSteps / 20)) === 0) {
      process.stderr.write(`${step}/${totalSteps}  ${told}\n`);
    }
  }

  #drawBar(step: number, total: number, told: string): void {
    if (!this.#bar) {
      this.#bar = new SingleBar({ format: "{bar} {value}/{total} {eta_formatted} {told}", stream: process.stderr });
      this.#bar.start(total, 0, { told });
    }
    this.#bar.update(step, { told });
  }

  #freeze({ step, layers, tensors, returnedBytes }: FreezeEvent): void {
    if (this.isQuiet) return;
    const adapters = layers.length === 1 ? "the adapter of layer" : "the adapters of layers";
    const what = layers.length > 0 ? `${adapters} ${layers.join(", ")}` : `${tensors.length} tensors`;
    if (this.#bar) process.stderr.write("\n");
    process.stderr.write(`step ${step}: froze ${what}; ${megabytes(returnedBytes)} returned\n`);
  }

  #skip({ step, what, value }: SkippedStep): void {
    if (this.#bar) process.stderr.write("\n");
    process.stderr.write(`after step ${step}: a batch was passed over, its ${what} is ${value}\n`);
  }

  /** Freed memory lets more rows run at once, and less run again; a frozen prefix need not run. */
  #stepShape({ step, rowsAtOnce, recomputed, prefix }: StepReport): void {
    const again = recomputed === 0 ? "nothing" : `${recomputed} parts`;
    const from = prefix ? `, begun at layer ${prefix.layer}` : "";
    const shape = `${rowsAtOnce} rows at once, ${again} run again${from}`;
    if (this.#shape !== "" && this.#shape !== shape) {
      if (this.#bar) process.stderr.write("\n");
      process.stderr.write(`step ${step}: ${shape} from now on\n`);
    }
    this.#shape = shape;
  }

  evaluated(metrics: Readonly<Record<string, number>>): void {
    if (this.isQuiet) return;
    if (this.#bar) process.stderr.write("\n");
    const told = Object.entries(metrics).map(([name, value]) => `${name} ${value.toFixed(4)}`);
    process.stderr.write(`evaluated: ${told.join("  ")}\n`);
  }

  stop(): void {
    this.#bar?.stop();
  }
}

const memoryOf = (bytes: Bytes): string =>
  LIFETIMES.map((lifetime) => `${lifetime} ${megabytes(bytes[lifetime])}`).join(" ");
