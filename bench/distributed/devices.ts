import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import type { WireReport } from "../../src/train/world";
import type { DeviceOptions } from "./device";
import { bundled } from "./from-root";

/** What a device tells of a step. */
export interface ToldStep {
  readonly step: number;
  readonly loss: number;
  readonly seconds: number;
  readonly wire?: WireReport;
  /** Number of tensors of each freeze. */
  readonly frozen: readonly number[];
  readonly frozenTensors: number;
  readonly rowsAtOnce: number;
  /** Whether the device leads its run. */
  readonly leads?: boolean;
  /** When this was heard, by `performance.now()` of the process that started the device. */
  readonly at: number;
  readonly digest?: string;
}

/** What a device tells at the end. */
export interface ToldEnd {
  readonly done: string;
  readonly losses: readonly number[];
  readonly weights: Readonly<Record<string, readonly number[]>>;
}

type Told = Partial<ToldStep> & Partial<ToldEnd> & { readonly warning?: string; readonly created?: string };

/** The bundle of the program, made once: devices start at the same time. */
let program: Promise<string> | undefined;

/** A device of a run, as a process. */
export class DeviceProcess {
  readonly steps: ToldStep[] = [];
  readonly warnings: string[] = [];
  /** Lines of stderr. */
  readonly errors: string[] = [];
  #end: ToldEnd | undefined;
  readonly #waiting = new Set<() => void>();
  readonly #closed: Promise<void>;
  #isClosed = false;
  #isCreated = false;

  private constructor(readonly process: ChildProcess) {
    createInterface({ input: process.stdout! }).on("line", (line) => this.#read(line));
    createInterface({ input: process.stderr! }).on("line", (line) => void this.errors.push(line));
    this.#closed = new Promise((resolve) => {
      process.once("close", () => {
        this.#isClosed = true;
        this.#tell();
        resolve();
      });
    });
  }

  /** @param env variables of the environment in addition. */
  static async start(options: DeviceOptions, env: Readonly<Record<string, string>> = {}): Promise<DeviceProcess> {
    const path = await (program ??= bundled("bench/distributed/device.ts"));
    const stdio = ["pipe", "pipe", "pipe"] as const;
    return new DeviceProcess(
      spawn(process.execPath, [path, JSON.stringify(options)], {
        stdio: [...stdio],
        env: { ...process.env, ...env },
      }),
    );
  }

  #read(line: string): void {
    // Lines of the program device.ts, and what drivers print.
    const told = line.startsWith("{") ? (JSON.parse(line) as Told) : {};
    this.#isCreated ||= told.created !== undefined;
    if (told.warning !== undefined) this.warnings.push(told.warning);
    // The program tells all members of a step or of an end.
    if (told.step !== undefined) this.steps.push({ ...(told as ToldStep), at: performance.now() });
    // As above.
    if (told.done !== undefined) this.#end = told as ToldEnd;
    this.#tell();
  }

  #tell(): void {
    for (const wake of this.#waiting) wake();
  }

  async #until(isTrue: () => boolean, what: string): Promise<void> {
    while (!isTrue()) {
      if (this.#isClosed) throw new Error(`A device ended before ${what}:\n${this.errors.join("\n")}`);
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#waiting.delete(wake);
          resolve();
        };
        this.#waiting.add(wake);
      });
    }
  }

  /** Resolves once the device has entered its run. @throws Error where it ends before. */
  created(): Promise<void> {
    return this.#until(() => this.#isCreated, "it had entered the run");
  }

  /** Lets a device go on that waits. */
  go(): void {
    this.process.stdin?.write("\n");
  }

  /** Resolves once the device has told a step of this number or a later one. @throws Error where it ends before. */
  step(step: number): Promise<void> {
    return this.#until(() => (this.steps.at(-1)?.step ?? 0) >= step, `step ${step}`);
  }

  /** What it tells at its end. @throws Error where it ends without. */
  async end(): Promise<ToldEnd> {
    await this.#until(() => this.#end !== undefined, "its end");
    await this.#closed;
    return this.#end!;
  }

  /** Ends the process as a power failure would. */
  async kill(): Promise<void> {
    this.process.kill("SIGKILL");
    await this.#closed;
  }
}
