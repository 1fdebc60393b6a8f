import { MemoryBudgetError } from "../base/errors";
import type { Device } from "../gpu/device";
import type { Lease } from "../gpu/pool";
import { specBytes } from "../tape/emit";
import type { Plan } from "../tape/plan";
import { reserve } from "../tape/reserve";
import { sumBytes } from "../gpu/ledger";
import { CompiledPlan } from "./compiled";
import { executorBytes, ownBytes } from "./footprint";
import { isOneSubmit, passedTo } from "./run";
import type { Coming, Inputs, Run } from "./run";
import type { TensorStore } from "./store";

export type { Coming, Inputs, Pass, Run } from "./run";

type Outputs = ReadonlyMap<string, Float32Array>;

/** A sequence whose first inputs are uploaded, and whose commands are encoded but for what was submitted. */
interface Ahead {
  readonly runs: readonly Run[];
  readonly commands: GPUCommandBuffer;
  /** Whether its first run was submitted, and how often the host had overwritten tensors by then. */
  readonly hasBegun: boolean;
  readonly writes: number;
}

/** Runs plans on a device. All plans share one set of buffers, since only one of them runs at a time. */
export class Executor {
  #compiled = new Map<Plan, CompiledPlan>();
  #shared: Lease[] = [];
  /** What the last `hold` gave it. */
  #own: readonly Plan[] = [];
  /** A sequence that is made ready; anything else that runs voids it. */
  #ahead: Ahead | undefined;
  #queue: Promise<unknown> = Promise.resolve();
  #isDisposed = false;

  /** @param mostBytes that the buffers of plans may take; what is held beside a step keeps to it. */
  constructor(
    private readonly device: Device,
    private readonly mostBytes = Infinity,
  ) {}

  /**
   * Holds exactly these plans from now on. What only earlier plans needed goes back to the driver first, so the
   * change itself needs no extra memory.
   * @throws OutOfMemoryError when the driver has no memory; the executor then holds what the last `hold` gave it, or
   * nothing where even that is refused.
   */
  async hold(plans: readonly Plan[]): Promise<void> {
    await this.#change(plans, "the buffers of a training step");
    this.#own = plans;
  }

  /** Tries kernels while there is room for it: before the plans take theirs, and without a peak of its own. */
  async #tune(plans: readonly Plan[]): Promise<void> {
    const { tuner, pool } = this.device;
    if (!tuner) return;
    const held = this.#shared.reduce((sum, { bytes }) => sum + bytes, 0);
    const own = [...this.#compiled.keys()].reduce((sum, plan) => sum + ownBytes(plan), 0);
    const planned = sumBytes(executorBytes(plans)) - held - own;
    const { peakBytes, liveBytes } = pool.ledger;
    await tuner.prepare(
      plans.flatMap(({ launches }) => launches),
      Math.max(planned, peakBytes - liveBytes),
    );
  }

  /**
   * Holds plans beside those of a step, or in their place where both do not fit; `hold` brings the step back.
   * @throws MemoryBudgetError, holding what it held, where the plans alone do not fit; OutOfMemoryError as `hold`.
   */
  async holdBeside(step: readonly Plan[], plans: readonly Plan[]): Promise<void> {
    const what = "the buffers of a forward pass beside training";
    const fits = (held: readonly Plan[]): boolean => sumBytes(executorBytes(held)) <= this.mostBytes;
    if (fits([...step, ...plans])) return this.#change([...step, ...plans], what);
    if (fits(plans)) return this.#change(plans, what);
    const needed = sumBytes(executorBytes(plans));
    throw new MemoryBudgetError(
      `A forward pass beside training needs ${needed} bytes; the budget leaves ${this.mostBytes}.`,
      "Evaluate smaller batches, give the trainer a smaller `probe`, or raise memoryBudget.",
      needed,
      this.mostBytes,
    );
  }

  async #change(plans: readonly Plan[], what: string): Promise<void> {
    this.device.check();
    try {
      await this.#exchange(plans, what);
    } catch (error) {
      this.#release();
      // Others may have taken the memory meanwhile; a later `hold` then begins with nothing.
      await this.#exchange(this.#own, what).catch(() => this.#release());
      throw error;
    }
  }

  async #exchange(plans: readonly Plan[], what: string): Promise<void> {
    const { pool } = this.device;
    this.#ahead = undefined;
    for (const [plan, compiled] of this.#compiled) {
      if (plans.includes(plan)) continue;
      compiled.dispose();
      this.#compiled.delete(plan);
    }
    this.#shared = rearrange(this.#shared, reserve(plans), (lease) => pool.return(lease));
    // The driver has what was returned before it is asked for more.
    await this.device.wait(pool.flush());
    await this.#tune(plans);
    const made = await pool.checked(what, () => this.#allocate(plans));
    for (const compiled of made) compiled.fill();
  }

  /** Makes what is missing, and returns the plans that are new. */
  #allocate(plans: readonly Plan[]): CompiledPlan[] {
    const { pool } = this.device;
    this.#shared = reserve(plans).map(({ bytes, saved }, i) => {
      const lifetime = saved ? "saved" : "scratch";
      const existing = this.#shared[i];
      if (existing) pool.relabel(existing, lifetime);
      return existing ?? pool.lease(bytes, lifetime);
    });
    const missing = plans.filter((plan) => !this.#compiled.has(plan));
    const made = missing.map((plan) => [plan, new CompiledPlan(plan, this.device)] as const);
    for (const [plan, compiled] of made) this.#compiled.set(plan, compiled);
    return made.map(([, compiled]) => compiled);
  }

  /** Makes the pipelines of the held plans. @throws KernelError when a kernel does not compile. */
  async compile(): Promise<void> {
    await Promise.all([...this.#compiled.values()].map((compiled) => this.#compile(compiled)));
  }

  async #compile(compiled: CompiledPlan): Promise<void> {
    if (!compiled.isReady) await this.device.wait(compiled.compile());
  }

  /** Whether a plan is held now. */
  holds(plan: Plan): boolean {
    return this.#compiled.has(plan);
  }

  /**
   * Runs a held plan and reads its outputs. Runs of one executor follow each other.
   * @param inputs every input of the plan; the gradient of the loss is 1 unless given.
   * @throws ShapeError for missing or ill-sized inputs, DeviceError when the device is lost.
   */
  run(plan: Plan, store: TensorStore, inputs: Inputs): Promise<Outputs> {
    return this.runAll([{ plan, store, inputs: () => inputs }]);
  }

  /**
   * Runs held plans one after the other without waiting in between, and reads the last one's outputs.
   * @param meanwhile called while they run; the sequence that it returns is made ready, for a later call with that very
   * array. Its first run begins at once where it may; the others do not before that call.
   * @throws as `run`.
   */
  runAll(runs: readonly Run[], meanwhile?: () => Coming | undefined): Promise<Outputs> {
    const result = this.#queue.then(() => this.#runNow(runs, meanwhile));
    this.#queue = result.catch(() => undefined);
    return result;
  }

  async #runNow(runs: readonly Run[], meanwhile?: () => Coming | undefined): Promise<Outputs> {
    this.device.check();
    for (const { plan } of runs) await this.#compile(this.#of(plan));
    const ahead = this.#ahead;
    this.#ahead = undefined;
    const isBound = runs.map((run) => this.#bind(run)).every(Boolean);
    const isAhead = ahead?.runs === runs && isBound && (!ahead.hasBegun || ahead.writes === this.device.writes);
    if (isAhead) this.#submitAhead(runs, ahead.commands);
    else this.#submit(runs);
    this.#lookAhead(meanwhile);
    const last = this.#of(runs.at(-1)!.plan);
    const outputs = await this.device.wait(last.read());
    this.device.check();
    return outputs;
  }

  /** What cannot be made ready fails when it is run, and not the sequence that runs now. */
  #lookAhead(meanwhile: (() => Coming | undefined) | undefined): void {
    try {
      const next = meanwhile?.();
      if (next) this.#prepare(next);
    } catch {
      this.#ahead = undefined;
    }
  }

  #of(plan: Plan): CompiledPlan {
    const compiled = this.#compiled.get(plan);
    if (!compiled) throw new Error("The executor does not hold this plan: call hold() first.");
    return compiled;
  }

  #bind({ plan, store }: Run): boolean {
    return this.#of(plan).bind(this.#shared, (name) => store.lease(name).buffer);
  }

  /** A plan that is not staged takes its inputs in place, which is safe only between submits. */
  #submit(runs: readonly Run[]): void {
    const { handle } = this.device;
    let encoder: GPUCommandEncoder | undefined;
    runs.forEach(({ plan, inputs }, i) => {
      if (encoder && !plan.isStaged) {
        handle.queue.submit([encoder.finish()]);
        encoder = undefined;
      }
      this.#of(plan).upload(inputs(), passedTo(runs, i));
      encoder ??= handle.createCommandEncoder();
      this.#encode(encoder, runs, i);
    });
    if (encoder) handle.queue.submit([encoder.finish()]);
  }

  #submitAhead(runs: readonly Run[], commands: GPUCommandBuffer): void {
    runs.forEach(({ plan, inputs }, i) => {
      if (i > 0) this.#of(plan).upload(inputs(), passedTo(runs, i));
    });
    this.device.handle.queue.submit([commands]);
  }

  #encode(encoder: GPUCommandEncoder, runs: readonly Run[], index: number): void {
    const { plan, pass } = runs[index]!;
    const compiled = this.#of(plan);
    compiled.encode(encoder);
    if (pass) {
      const { buffer, offset } = this.#of(pass.to).inputPlace(pass.input);
      encoder.copyBufferToBuffer(
        compiled.outputBuffer(pass.output),
        0,
        buffer,
        offset,
        specBytes(plan.outputs.get(pass.output)!.spec),
      );
    }
    if (index === runs.length - 1) compiled.encodeReadback(encoder);
  }

  /**
   * Uploads the first inputs, which the queue puts behind what runs, encodes, and submits the first run where it may begin:
   * the device then goes on while the host reads what ran before. Nothing where that has to wait.
   */
  #prepare({ runs, mayBegin }: Coming): void {
    if (!isOneSubmit(runs) || !runs.every(({ plan }) => this.#compiled.get(plan)?.isReady)) return;
    for (const run of runs) this.#bind(run);
    const [first] = runs as [Run];
    this.#of(first.plan).upload(first.inputs(), passedTo(runs, 0));
    const { handle, writes } = this.device;
    const hasBegun = mayBegin && runs.length > 1;
    let encoder = handle.createCommandEncoder();
    runs.forEach((_, i) => {
      this.#encode(encoder, runs, i);
      if (i > 0 || !hasBegun) return;
      handle.queue.submit([encoder.finish()]);
      encoder = handle.createCommandEncoder();
    });
    this.#ahead = { runs, commands: encoder.finish(), hasBegun, writes };
  }

  #release(): void {
    this.#ahead = undefined;
    for (const compiled of this.#compiled.values()) compiled.dispose();
    this.#compiled.clear();
    for (const lease of this.#shared) this.device.pool.return(lease);
    this.#shared = [];
  }

  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#release();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Keeps the leases whose size is still wanted at their rank, or at any other; returns the rest. */
function rearrange(
  leases: readonly Lease[],
  wanted: readonly { readonly bytes: number }[],
  giveBack: (lease: Lease) => void,
): Lease[] {
  const bySize = new Map<number, Lease[]>();
  for (const lease of leases) bySize.set(lease.bytes, [...(bySize.get(lease.bytes) ?? []), lease]);
  const kept: Lease[] = [];
  wanted.forEach(({ bytes }, i) => {
    const lease = bySize.get(bytes)?.shift();
    if (lease) kept[i] = lease;
  });
  for (const rest of bySize.values()) rest.forEach(giveBack);
  return kept;
}
