import { DeviceError, DisposedError, LimitError } from "../base/errors";
import { Ledger } from "./ledger";
import type { Lifetime } from "./ledger";

/** A GPU buffer that somebody owns. Whoever leased it returns it. */
export interface Lease {
  readonly buffer: GPUBuffer;
  readonly bytes: number;
  readonly lifetime: Lifetime;
}

/** Usage flags by name, so that nothing here needs WebGPU's globals (Node has none). */
export const USAGE = { mapRead: 0x1, copySource: 0x4, copyTarget: 0x8, uniform: 0x40, storage: 0x80 } as const;

const STORAGE = USAGE.storage | USAGE.copySource | USAGE.copyTarget;

/**
 * The only place that makes GPU buffers. It keeps no free list: what a plan no longer needs goes back to the driver,
 * and what plans share is shared by `reserve`.
 */
export class Pool {
  readonly ledger = new Ledger();
  #leases = new Set<Lease>();
  #isDisposed = false;

  constructor(private readonly device: GPUDevice) {}

  /**
   * A new buffer of `bytes` (rounded up to 4).
   * @throws LimitError above the device's largest buffer, DisposedError after `dispose`.
   */
  lease(bytes: number, lifetime: Lifetime, usage: number = STORAGE): Lease {
    if (this.#isDisposed) throw new DisposedError("This engine is disposed.", "Create a new one with createEngine().");
    const size = Math.max(4, Math.ceil(bytes / 4) * 4);
    const { maxBufferSize } = this.device.limits;
    if (size > maxBufferSize) {
      throw new LimitError(
        `A buffer of ${size} bytes is asked for; this adapter makes at most ${maxBufferSize}.`,
        "Use a smaller batch, or an adapter with a larger maxBufferSize.",
      );
    }
    const lease: Lease = { buffer: this.device.createBuffer({ size, usage }), bytes: size, lifetime };
    this.#leases.add(lease);
    this.ledger.add(lifetime, size);
    return lease;
  }

  /** Gives a buffer back. The driver frees it once the work that uses it is done; see `flush`. */
  return(lease: Lease): void {
    if (!this.#leases.delete(lease)) return;
    lease.buffer.destroy();
    this.ledger.remove(lease.lifetime, lease.bytes);
  }

  /** The same buffer under another lifetime. The old lease is void. */
  relabel(lease: Lease, lifetime: Lifetime): Lease {
    if (lease.lifetime === lifetime || !this.#leases.delete(lease)) return lease;
    const relabelled = { ...lease, lifetime };
    this.#leases.add(relabelled);
    this.ledger.relabel(lease.lifetime, lifetime, lease.bytes);
    return relabelled;
  }

  /**
   * Resolves when returned buffers have really gone back. Dawn frees a destroyed buffer when it next looks after the
   * submit that follows the destruction has completed: the first submit here is for the one, the second for the other.
   * Each holds a command, since Dawn hands no empty submit to the driver.
   */
  async flush(): Promise<void> {
    const target = this.device.createBuffer({ size: 4, usage: USAGE.copyTarget });
    for (let submits = 0; submits < 2; submits++) {
      const encoder = this.device.createCommandEncoder();
      encoder.clearBuffer(target);
      this.device.queue.submit([encoder.finish()]);
      await this.device.queue.onSubmittedWorkDone();
    }
    target.destroy();
  }

  /**
   * Runs `allocate` and checks that the driver had the memory; if not, everything it leased is returned.
   * @throws DeviceError when the driver is out of memory.
   */
  async checked<T>(what: string, allocate: () => T | Promise<T>): Promise<T> {
    const before = new Set(this.#leases);
    this.device.pushErrorScope("out-of-memory");
    let error: GPUError | null;
    try {
      return await allocate();
    } catch (failure) {
      this.#returnAllBut(before);
      throw failure;
    } finally {
      error = await this.device.popErrorScope();
      if (error) {
        const asked = this.ledger.liveBytes;
        this.#returnAllBut(before);
        // eslint-disable-next-line no-unsafe-finally -- the driver's refusal outranks whatever the body returned
        throw new DeviceError(
          `The driver is out of memory while allocating ${what} (${asked} bytes live in all): ${error.message}`,
          "Use a smaller batch or length, or pass memoryBudget to be told before anything is allocated.",
        );
      }
    }
  }

  #returnAllBut(kept: ReadonlySet<Lease>): void {
    for (const lease of [...this.#leases]) if (!kept.has(lease)) this.return(lease);
  }

  dispose(): void {
    for (const lease of [...this.#leases]) this.return(lease);
    this.#isDisposed = true;
  }
}
