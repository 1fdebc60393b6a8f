import { MemoryBudgetError } from "../base/errors";
import type { Device } from "../gpu/device";
import type { Lease } from "../gpu/pool";
import { specBytes } from "../tape/emit";
import type { Plan } from "../tape/plan";
import { reserve } from "../tape/reserve";
import { sumBytes } from "../gpu/ledger";
import { CompiledPlan } from "./compiled";
import { variantLaunches } from "./device-launches";
import { executorBytes, unsharedBytes } from "./footprint";
import { fitsOneSubmit, passedTo } from "./run";
import type { Inputs, Run } from "./run";
import type { TensorStore } from "./store";
import type { DispatchClock } from "./timed";
import type { Trace } from "./trace";

export type { Inputs, Pass, Run } from "./run";

type Outputs = ReadonlyMap<string, Float32Array>;

/** A sequence whose first run's inputs are uploaded and whose commands are encoded, by `Executor.prepare`. */
export interface Prepared {
  readonly runs: readonly Run[];
  /** The commands of all runs, or of all but the first if that one was submitted already. */
  readonly commands: GPUCommandBuffer;
  /** Whether the first run was submitted already. */
  readonly hasBegun: boolean;
  /** The device's `writes` when the sequence was prepared. */
  readonly writes: number;
  /** The executor's generation when the sequence was prepared. */
  readonly generation: number;
}

export interface RunAllOptions {
  /** The result of `prepare` for these runs. It is ignored if it is no longer valid. */
  readonly prepared?: Prepared | undefined;
  /** Called after the runs are submitted, before their outputs are waited for. */
  readonly meanwhile?: () => void;
}

/** Runs plans on a device. All plans that it holds share one set of buffers, since only one of them runs at a time. */
export class Executor {
  #compiled = new Map<Plan, CompiledPlan>();
  /** The buffers that all plans share, largest first. */
  #shared: Lease[] = [];
  /** The plans of the last `hold`. */
  #step: readonly Plan[] = [];
  /** Incremented by every sequence that runs and every change of plans; a sequence prepared before is then invalid. */
  #generation = 0;
  #queue: Promise<unknown> = Promise.resolve();
  #isDisposed = false;
  /** Times the dispatches of a trace. */
  #clock: DispatchClock | undefined;

  /**
   * @param maxBytes returns the budget in bytes for the buffers of all plans, as it is at the moment. `beside` keeps to it,
   * and so does the tuning of kernels.
   */
  constructor(
    private readonly device: Device,
    private readonly maxBytes: () => number = () => Infinity,
  ) {}

  /**
   * Holds exactly these plans from now on. Memory that only earlier plans needed is returned to the driver first, so the
   * change itself needs no extra memory.
   * @throws OutOfMemoryError when the driver has no memory. The executor then holds the plans of the last successful `hold`,
   * or nothing if even those are refused.
   */
  async hold(plans: readonly Plan[]): Promise<void> {
    await this.#change(plans, "the buffers of a training step");
    this.#step = plans;
  }

  /**
   * Times and compares kernels for new plans while the memory that the plans will take is still free, so that the peak stays
   * the same.
   */
  async #try(plans: readonly Plan[]): Promise<void> {
    const { tuner } = this.device;
    const bytes = this.#freeBytes(plans);
    await tuner?.prepare(
      plans.flatMap(({ launches }) => launches),
      bytes,
    );
    const added = plans.filter((plan) => !this.#compiled.has(plan));
    // What takes the place of a wrong variant may be one that has not run either.
    while (await this.#check(added, bytes));
  }

  /** Compares variants that run for the first time. Resolves with whether one of them was left out. */
  async #check(plans: readonly Plan[], maxBytes: number): Promise<boolean> {
    const { device } = this;
    const launches = plans.flatMap((plan) => variantLaunches(plan, device));
    if (launches.length === 0) return false;
    return (await (await device.checker)?.check(launches, maxBytes)) ?? false;
  }

  /** Bytes that may be used, before the plans are allocated, without a higher peak. */
  #freeBytes(plans: readonly Plan[]): number {
    const { pool } = this.device;
    const shared = this.#shared.reduce((sum, { bytes }) => sum + bytes, 0);
    const unshared = [...this.#compiled.keys()].reduce((sum, plan) => sum + unsharedBytes(plan), 0);
    const missingBytes = sumBytes(executorBytes(plans)) - shared - unshared;
    const { peakBytes, liveBytes } = pool.ledger;
    const available = this.maxBytes() - shared - unshared;
    return Math.max(missingBytes, Math.min(peakBytes - liveBytes, available));
  }

  /**
   * Runs `body` while the executor holds other plans in addition to those of the last `hold`, or in their place if both do
   * not fit into the budget. Afterwards it holds the plans of the last `hold` again, whatever happened.
   * @param body gets a function that holds one more plan, until `body` ends or holds others that do not fit next to it.
   * @param bodyBytes GPU bytes that `body` allocates itself. The budget must have room for them too.
   * @throws MemoryBudgetError when the other plans alone exceed the budget, OutOfMemoryError when the driver has no memory
   * for them; whatever `body` throws.
   */
  async beside<T>(
    plans: readonly Plan[],
    body: (hold: (plan: Plan) => Promise<void>) => Promise<T>,
    bodyBytes = 0,
  ): Promise<T> {
    const step = this.#step;
    let held = plans;
    if (held.length > 0) await this.#holdBeside(step, held, bodyBytes);
    try {
      return await body(async (plan) => {
        if (this.holds(plan)) return;
        held = this.#fits([...held, plan], bodyBytes) ? [...held, plan] : [plan];
        await this.#holdBeside(step, held, bodyBytes);
      });
    } finally {
      await this.hold(step);
    }
  }

  async #holdBeside(step: readonly Plan[], plans: readonly Plan[], otherBytes: number): Promise<void> {
    const purpose = "the buffers of a forward pass during training";
    if (this.#fits([...step, ...plans], otherBytes)) return this.#change([...step, ...plans], purpose);
    if (this.#fits(plans, otherBytes)) return this.#change(plans, purpose);
    const needed = sumBytes(executorBytes(plans)) + otherBytes;
    const available = this.maxBytes();
    throw new MemoryBudgetError(
      `A forward pass during training needs ${needed} bytes; the budget leaves ${available}.`,
      "Evaluate or generate in smaller batches, give the trainer a smaller `probe`, or raise memory.budget.",
      needed,
      available,
    );
  }

  #fits(plans: readonly Plan[], otherBytes: number): boolean {
    return sumBytes(executorBytes(plans)) + otherBytes <= this.maxBytes();
  }

  /** @param purpose what the memory is for, for errors. */
  async #change(plans: readonly Plan[], purpose: string): Promise<void> {
    this.device.check();
    try {
      await this.#exchange(plans, purpose);
    } catch (error) {
      this.#release();
      // Other processes may have taken the memory. The executor then holds nothing until the next `hold`.
      await this.#exchange(this.#step, purpose).catch(() => this.#release());
      throw error;
    }
  }

  async #exchange(plans: readonly Plan[], purpose: string): Promise<void> {
    const { pool } = this.device;
    // Uniforms are packed by the declarations of kernels, some of which load later.
    const loading = plans.flatMap((plan) => plan.launches.flatMap(({ launch }) => launch.kernel.load?.() ?? []));
    if (loading.length > 0) await Promise.all(loading);
    this.#generation++;
    for (const [plan, compiled] of this.#compiled) {
      if (plans.includes(plan)) continue;
      compiled.dispose();
      this.#compiled.delete(plan);
    }
    this.#shared = rearrange(this.#shared, reserve(plans), (lease) => pool.return(lease));
    // The driver must have freed the returned memory before more is allocated.
    await this.device.wait(pool.flush());
    await this.#try(plans);
    const added = await pool.checked(purpose, () => this.#allocate(plans));
    for (const compiled of added) compiled.writeUniforms();
  }

  /** Allocates the missing buffers, and returns the plans that are new. */
  #allocate(plans: readonly Plan[]): CompiledPlan[] {
    const { pool } = this.device;
    this.#shared = reserve(plans).map(({ bytes, saved }, i) => {
      const lifetime = saved ? "saved" : "scratch";
      const existing = this.#shared[i];
      if (existing) pool.relabel(existing, lifetime);
      return existing ?? pool.lease(bytes, lifetime);
    });
    const missing = plans.filter((plan) => !this.#compiled.has(plan));
    const added = missing.map((plan) => new CompiledPlan(plan, this.device));
    for (const compiled of added) this.#compiled.set(compiled.plan, compiled);
    return added;
  }

  /** Compiles the kernels of the held plans. Otherwise a plan's first run does. @throws KernelError when a kernel does not compile. */
  async compile(): Promise<void> {
    await Promise.all([...this.#compiled.values()].map((compiled) => this.#compile(compiled)));
  }

  async #compile(compiled: CompiledPlan): Promise<void> {
    if (!compiled.isCompiled) await this.device.wait(compiled.compile());
  }

  /** Whether the executor holds a plan. */
  holds(plan: Plan): boolean {
    return this.#compiled.has(plan);
  }

  /**
   * Runs a held plan and reads its outputs. Calls may overlap; their runs follow each other.
   * @param inputs every input of the plan. The gradient of the loss is 1 by default.
   * @throws ShapeError for missing inputs and for inputs of another size, DeviceError when the device is lost.
   */
  run(plan: Plan, store: TensorStore, inputs: Inputs): Promise<Outputs> {
    return this.runAll([{ plan, store, inputs: () => inputs }]);
  }

  /**
   * Runs held plans one after the other without waiting in between, and reads the outputs of the last one. Throws as `run`
   * does, and whatever `meanwhile` throws.
   */
  runAll(runs: readonly Run[], options: RunAllOptions = {}): Promise<Outputs> {
    const result = this.#queue.then(() => this.#runNow(runs, options));
    this.#queue = result.catch(() => undefined);
    return result;
  }

  /**
   * Runs `body`; what it runs on this executor is dispatched one by one and timed. That takes longer than without, and is for one
   * step or a few.
   */
  async trace<T>(body: () => Promise<T>): Promise<{ readonly result: T; readonly trace: Trace }> {
    const [{ DispatchClock }, { traceOf }] = await Promise.all([import("./timed"), import("./trace")]);
    const clock = (this.#clock = new DispatchClock(this.device));
    try {
      return { result: await body(), trace: traceOf(clock.dispatches, clock.clock) };
    } finally {
      this.#clock = undefined;
    }
  }

  async #runTimed(clock: DispatchClock, runs: readonly Run[]): Promise<Outputs> {
    for (const [i, run] of runs.entries()) {
      const compiled = this.#held(run.plan);
      compiled.upload(run.inputs(), passedTo(runs, i));
      await clock.run(compiled, run.isUpdate ? "update" : undefined);
      const encoder = this.device.handle.createCommandEncoder();
      this.#encodeCopies(encoder, runs, i);
      this.device.handle.queue.submit([encoder.finish()]);
    }
    return this.device.wait(this.#held(runs.at(-1)!.plan).read());
  }

  async #runNow(runs: readonly Run[], { prepared, meanwhile }: RunAllOptions): Promise<Outputs> {
    this.device.check();
    for (const { plan } of runs) await this.#compile(this.#held(plan));
    if (this.#clock) {
      this.#generation++;
      for (const run of runs) this.#bind(run);
      return this.#runTimed(this.#clock, runs);
    }
    const isCurrent = prepared?.runs === runs && prepared.generation === this.#generation;
    this.#generation++;
    const isBound = runs.map((run) => this.#bind(run)).every(Boolean);
    const isValid = isCurrent && isBound && (!prepared.hasBegun || prepared.writes === this.device.writes);
    if (isValid) this.#submitPrepared(prepared);
    else this.#submit(runs);
    meanwhile?.();
    const last = this.#held(runs.at(-1)!.plan);
    const outputs = await this.device.wait(last.read());
    this.device.check();
    return outputs;
  }

  #held(plan: Plan): CompiledPlan {
    const compiled = this.#compiled.get(plan);
    if (!compiled) throw new Error("The executor does not hold this plan: call hold() first.");
    return compiled;
  }

  #bind({ plan, store }: Run): boolean {
    return this.#held(plan).bind(this.#shared, (name) => store.lease(name));
  }

  /** Submits a sequence. Inputs of a plan that is not staged are written in place, so earlier runs must be submitted first. */
  #submit(runs: readonly Run[]): void {
    const { handle } = this.device;
    let encoder: GPUCommandEncoder | undefined;
    runs.forEach(({ plan, inputs }, i) => {
      if (encoder && !plan.isStaged) {
        handle.queue.submit([encoder.finish()]);
        encoder = undefined;
      }
      this.#held(plan).upload(inputs(), passedTo(runs, i));
      encoder ??= handle.createCommandEncoder();
      this.#encode(encoder, runs, i);
    });
    if (encoder) handle.queue.submit([encoder.finish()]);
  }

  /** Submits what `prepare` left: its commands, and the inputs of all runs but the first. */
  #submitPrepared({ runs, commands }: Prepared): void {
    runs.forEach(({ plan, inputs }, i) => {
      if (i > 0) this.#held(plan).upload(inputs(), passedTo(runs, i));
    });
    this.device.handle.queue.submit([commands]);
  }

  /** Encodes one run of a sequence, the output that it passes on, and the readback if it is the last. */
  #encode(encoder: GPUCommandEncoder, runs: readonly Run[], index: number): void {
    this.#held(runs[index]!.plan).encode(encoder);
    this.#encodeCopies(encoder, runs, index);
  }

  #encodeCopies(encoder: GPUCommandEncoder, runs: readonly Run[], index: number): void {
    const { plan, pass } = runs[index]!;
    const compiled = this.#held(plan);
    if (pass) {
      const { buffer, offset } = this.#held(pass.to).inputLocation(pass.input);
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
   * Prepares a sequence while another one runs, to be called from `meanwhile`: uploads the first run's inputs, which the
   * queue puts behind the work that is running, and encodes all commands.
   *
   * The result is for a later `runAll` of the same array. It becomes invalid when anything else runs, when the held plans
   * change, and, where the first run has begun, when the host writes tensors; `runAll` then starts the sequence from scratch.
   * @param mayBegin whether the first run may be submitted now, so that the device computes while the host reads the
   * results of the work before. If the sequence is not run after all, that work is lost.
   * @returns undefined if the sequence needs more than one submit, or a plan of it is not held and compiled.
   * @throws ShapeError for missing inputs of the first run and for inputs of another size.
   */
  prepare(runs: readonly Run[], mayBegin: boolean): Prepared | undefined {
    const [first] = runs;
    if (!first || !fitsOneSubmit(runs) || !runs.every(({ plan }) => this.#compiled.get(plan)?.isCompiled))
      return undefined;
    for (const run of runs) this.#bind(run);
    this.#held(first.plan).upload(first.inputs(), passedTo(runs, 0));
    const { handle, writes } = this.device;
    const hasBegun = mayBegin && runs.length > 1;
    let encoder = handle.createCommandEncoder();
    runs.forEach((_, i) => {
      this.#encode(encoder, runs, i);
      if (i > 0 || !hasBegun) return;
      handle.queue.submit([encoder.finish()]);
      encoder = handle.createCommandEncoder();
    });
    return { runs, commands: encoder.finish(), hasBegun, writes, generation: this.#generation };
  }

  #release(): void {
    this.#generation++;
    for (const compiled of this.#compiled.values()) compiled.dispose();
    this.#compiled.clear();
    for (const lease of this.#shared) this.device.pool.return(lease);
    this.#shared = [];
  }

  /** Returns all memory. Further calls do nothing. */
  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#release();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Reuses leases for buffers of the same size, and calls `giveBack` for the others. Ranks without a lease stay empty. */
function rearrange(
  leases: readonly Lease[],
  buffers: readonly { readonly bytes: number }[],
  giveBack: (lease: Lease) => void,
): Lease[] {
  const bySize = new Map<number, Lease[]>();
  for (const lease of leases) bySize.set(lease.bytes, [...(bySize.get(lease.bytes) ?? []), lease]);
  const reused: Lease[] = [];
  buffers.forEach(({ bytes }, rank) => {
    const lease = bySize.get(bytes)?.shift();
    if (lease) reused[rank] = lease;
  });
  for (const unused of bySize.values()) unused.forEach(giveBack);
  return reused;
}
