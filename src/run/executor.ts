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
import type { Inputs, Run } from "./run";
import type { TensorStore } from "./store";

export type { Inputs, Pass, Run } from "./run";

type Outputs = ReadonlyMap<string, Float32Array>;

/** A sequence whose first inputs are uploaded and whose commands are encoded. See `Executor.prepare`. */
export interface Prepared {
  readonly runs: readonly Run[];
  /** The commands of all runs, or of all but the first where that one was submitted already. */
  readonly commands: GPUCommandBuffer;
  /** Whether the first run was submitted already. */
  readonly hasBegun: boolean;
  /** The device's `writes` when the sequence was prepared. */
  readonly writes: number;
  /** The executor's generation when the sequence was prepared. */
  readonly generation: number;
}

export interface RunAllOptions {
  /** What `prepare` returned for these runs. It is ignored where it is no longer valid. */
  readonly prepared?: Prepared | undefined;
  /** Called after the runs are submitted, before their outputs are waited for. */
  readonly meanwhile?: () => void;
}

/** Runs plans on a device. All plans share one set of buffers, since only one of them runs at a time. */
export class Executor {
  #compiled = new Map<Plan, CompiledPlan>();
  #shared: Lease[] = [];
  /** The plans of the last `hold`. */
  #step: readonly Plan[] = [];
  /** Grows with every sequence that runs and every change of plans: what was prepared before is then invalid. */
  #generation = 0;
  #queue: Promise<unknown> = Promise.resolve();
  #isDisposed = false;

  /**
   * @param mostBytes how many bytes the buffers of plans may take now. Plans that are held in addition to a step's take the
   * step's place where both do not fit.
   */
  constructor(
    private readonly device: Device,
    private readonly mostBytes: () => number = () => Infinity,
  ) {}

  /**
   * Holds exactly these plans from now on. What only earlier plans needed goes back to the driver first, so the
   * change itself needs no extra memory.
   * @throws OutOfMemoryError when the driver has no memory; the executor then holds what the last `hold` gave it, or
   * nothing where even that is refused.
   */
  async hold(plans: readonly Plan[]): Promise<void> {
    await this.#change(plans, "the buffers of a training step");
    this.#step = plans;
  }

  /** Tries kernels while there is room for it: before the plans take theirs, and without a peak of its own. */
  async #tune(plans: readonly Plan[]): Promise<void> {
    const { tuner, pool } = this.device;
    if (!tuner) return;
    const held = this.#shared.reduce((sum, { bytes }) => sum + bytes, 0);
    const own = [...this.#compiled.keys()].reduce((sum, plan) => sum + ownBytes(plan), 0);
    const planned = sumBytes(executorBytes(plans)) - held - own;
    const { peakBytes, liveBytes } = pool.ledger;
    const available = this.mostBytes() - held - own;
    await tuner.prepare(
      plans.flatMap(({ launches }) => launches),
      Math.max(planned, Math.min(peakBytes - liveBytes, available)),
    );
  }

  /**
   * Runs `body` with further plans held in addition to those of the last `hold`, or in their place where both do not fit
   * into the budget. Afterwards those of the last `hold` are held again, whatever happened.
   * @param body gets a function that holds one more plan, until `body` ends or asks for others that do not fit next to it.
   * @throws MemoryBudgetError where the further plans alone do not fit, OutOfMemoryError as `hold`: the executor then holds
   * what it held before; whatever `body` throws.
   */
  async beside<T>(plans: readonly Plan[], body: (hold: (plan: Plan) => Promise<void>) => Promise<T>): Promise<T> {
    const step = this.#step;
    let held = plans;
    if (held.length > 0) await this.#holdBeside(step, held);
    try {
      return await body(async (plan) => {
        if (this.holds(plan)) return;
        held = this.#fits([...held, plan]) ? [...held, plan] : [plan];
        await this.#holdBeside(step, held);
      });
    } finally {
      await this.hold(step);
    }
  }

  async #holdBeside(step: readonly Plan[], plans: readonly Plan[]): Promise<void> {
    const what = "the buffers of a forward pass beside training";
    if (this.#fits([...step, ...plans])) return this.#change([...step, ...plans], what);
    if (this.#fits(plans)) return this.#change(plans, what);
    const needed = sumBytes(executorBytes(plans));
    const available = this.mostBytes();
    throw new MemoryBudgetError(
      `A forward pass beside training needs ${needed} bytes; the budget leaves ${available}.`,
      "Evaluate smaller batches, give the trainer a smaller `probe`, or raise memoryBudget.",
      needed,
      available,
    );
  }

  #fits(plans: readonly Plan[]): boolean {
    return sumBytes(executorBytes(plans)) <= this.mostBytes();
  }

  async #change(plans: readonly Plan[], what: string): Promise<void> {
    this.device.check();
    try {
      await this.#exchange(plans, what);
    } catch (error) {
      this.#release();
      // Others may have taken the memory meanwhile; a later `hold` then begins with nothing.
      await this.#exchange(this.#step, what).catch(() => this.#release());
      throw error;
    }
  }

  async #exchange(plans: readonly Plan[], what: string): Promise<void> {
    const { pool } = this.device;
    this.#generation++;
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
   * @throws as `run`; whatever `meanwhile` throws.
   */
  runAll(runs: readonly Run[], options: RunAllOptions = {}): Promise<Outputs> {
    const result = this.#queue.then(() => this.#runNow(runs, options));
    this.#queue = result.catch(() => undefined);
    return result;
  }

  async #runNow(runs: readonly Run[], { prepared, meanwhile }: RunAllOptions): Promise<Outputs> {
    this.device.check();
    for (const { plan } of runs) await this.#compile(this.#of(plan));
    const isCurrent = prepared?.runs === runs && prepared.generation === this.#generation;
    this.#generation++;
    const isBound = runs.map((run) => this.#bind(run)).every(Boolean);
    const isValid = isCurrent && isBound && (!prepared.hasBegun || prepared.writes === this.device.writes);
    if (isValid) this.#submitPrepared(prepared);
    else this.#submit(runs);
    meanwhile?.();
    const last = this.#of(runs.at(-1)!.plan);
    const outputs = await this.device.wait(last.read());
    this.device.check();
    return outputs;
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

  #submitPrepared({ runs, commands }: Prepared): void {
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
   * Prepares a sequence while another one runs, to be called from `meanwhile`: uploads the first run's inputs, which the
   * queue puts behind the work that is running, and encodes all commands.
   *
   * The result is for a later `runAll` of the same array. It becomes invalid when anything else runs, when the held plans
   * change, and, where the first run has begun, when the host writes tensors; `runAll` then starts the sequence from scratch.
   * @param mayBegin whether the first run may be submitted now, so that the device computes while the host reads the
   * results of the work before. Where the sequence is not run after all, that work was in vain.
   * @returns undefined where the sequence needs more than one submit, or a plan of it is not held and compiled.
   * @throws ShapeError for missing or ill-sized inputs of the first run.
   */
  prepare(runs: readonly Run[], mayBegin: boolean): Prepared | undefined {
    const [first] = runs;
    if (!first || !isOneSubmit(runs) || !runs.every(({ plan }) => this.#compiled.get(plan)?.isReady)) return undefined;
    for (const run of runs) this.#bind(run);
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
    return { runs, commands: encoder.finish(), hasBegun, writes, generation: this.#generation };
  }

  #release(): void {
    this.#generation++;
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
