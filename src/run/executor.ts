import { MemoryBudgetError, ShapeError } from "../base/errors";
import { elements, formatShape } from "../base/shape";
import type { Device } from "../gpu/device";
import type { Lease } from "../gpu/pool";
import { LOSS_GRADIENT } from "../tape/plan";
import type { Plan } from "../tape/plan";
import { fitInto, reserve } from "../tape/reserve";
import { sumBytes } from "../gpu/ledger";
import { CompiledPlan } from "./compiled";
import { executorBytes } from "./footprint";
import type { TensorStore } from "./store";

/** Host data of a plan's inputs, by name. */
export type Inputs = Readonly<Record<string, Float32Array | Int32Array | Uint32Array>>;

/** Runs plans on a device. All plans share one set of buffers, since only one of them runs at a time. */
export class Executor {
  #compiled = new Map<Plan, CompiledPlan>();
  #shared: Lease[] = [];
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
   * @throws DeviceError when the driver is out of memory; the executor then holds no plan.
   */
  async hold(plans: readonly Plan[]): Promise<void> {
    const { pool } = this.device;
    this.device.check();
    for (const [plan, compiled] of this.#compiled) {
      if (plans.includes(plan)) continue;
      compiled.dispose();
      this.#compiled.delete(plan);
    }
    this.#shared = rearrange(this.#shared, reserve(plans), (lease) => pool.return(lease));
    try {
      await pool.checked("the buffers of a training step", () => this.#allocate(plans));
    } catch (error) {
      this.#release();
      throw error;
    }
    await pool.flush();
  }

  /**
   * Holds plans beside those of a step, or in their place where both do not fit; `hold` brings the step back.
   * @throws MemoryBudgetError, holding what it held, where the plans alone do not fit.
   */
  async holdBeside(step: readonly Plan[], plans: readonly Plan[]): Promise<void> {
    const fits = (held: readonly Plan[]): boolean => sumBytes(executorBytes(held)) <= this.mostBytes;
    if (fits([...step, ...plans])) return this.hold([...step, ...plans]);
    if (fits(plans)) return this.hold(plans);
    const needed = sumBytes(executorBytes(plans));
    throw new MemoryBudgetError(
      `A forward pass beside training needs ${needed} bytes; the budget leaves ${this.mostBytes}.`,
      "Evaluate smaller batches, give the trainer a smaller `probe`, or raise memoryBudget.",
      needed,
      this.mostBytes,
    );
  }

  #allocate(plans: readonly Plan[]): void {
    const { pool } = this.device;
    this.#shared = reserve(plans).map(({ bytes, saved }, i) => {
      const lifetime = saved ? "saved" : "scratch";
      const existing = this.#shared[i];
      return existing ? pool.relabel(existing, lifetime) : pool.lease(bytes, lifetime);
    });
    for (const plan of plans) {
      if (!this.#compiled.has(plan)) this.#compiled.set(plan, new CompiledPlan(plan, this.device));
    }
  }

  /** Makes the pipelines of the held plans. @throws KernelError when a kernel does not compile. */
  async compile(): Promise<void> {
    await Promise.all([...this.#compiled.values()].map((compiled) => compiled.pipelines()));
  }

  /**
   * Runs a held plan and reads its outputs. Runs of one executor follow each other.
   * @param inputs every input of the plan; the gradient of the loss is 1 unless given.
   * @throws ShapeError for missing or ill-sized inputs, DeviceError when the device is lost.
   */
  run(plan: Plan, store: TensorStore, inputs: Inputs): Promise<ReadonlyMap<string, Float32Array>> {
    const result = this.#queue.then(() => this.#runNow(plan, store, inputs));
    this.#queue = result.catch(() => undefined);
    return result;
  }

  async #runNow(plan: Plan, store: TensorStore, inputs: Inputs): Promise<ReadonlyMap<string, Float32Array>> {
    const compiled = this.#compiled.get(plan);
    if (!compiled) throw new Error("The executor does not hold this plan: call hold() first.");
    this.device.check();
    const rank = fitInto(plan);
    const buffers = plan.buffers.map((_, i) => (this.#shared[rank[i] as number] as Lease).buffer);
    this.#upload(plan, buffers, { [LOSS_GRADIENT]: Float32Array.of(1), ...inputs });
    await compiled.bind(buffers, (name) => store.lease(name).buffer);
    const encoder = this.device.handle.createCommandEncoder();
    compiled.encode(encoder);
    this.device.handle.queue.submit([encoder.finish()]);
    const outputs = await this.device.guard(compiled.read());
    this.device.check();
    return outputs;
  }

  #upload(plan: Plan, buffers: readonly GPUBuffer[], inputs: Inputs): void {
    for (const [name, { spec, buffer }] of plan.inputs) {
      const data = inputs[name];
      if (!data || data.length !== elements(spec.shape)) {
        throw new ShapeError(
          `The input ${name} ${data ? `has ${data.length} elements` : "is missing"}; the plan wants ${formatShape(spec.shape)}.`,
          "Give every input of the plan in the shape it was traced with.",
        );
      }
      this.device.handle.queue.writeBuffer(buffers[buffer] as GPUBuffer, 0, data as Float32Array<ArrayBuffer>);
    }
  }

  #release(): void {
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
