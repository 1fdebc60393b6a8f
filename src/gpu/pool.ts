import { DisposedError, LimitError, OutOfMemoryError } from "../base/errors";
import { Ledger } from "./ledger";
import type { Lifetime } from "./ledger";

/** A GPU buffer, or a part of one. */
export interface Memory {
  readonly buffer: GPUBuffer;
  /** First byte. */
  readonly offset: number;
  readonly bytes: number;
}

/** A GPU buffer with an owner. Whoever leased it returns it to the pool. */
export interface Lease extends Memory {
  readonly offset: 0;
}

/** What the pool records of a lease. */
interface LeaseRecord {
  lifetime: Lifetime;
  /** Whether the ledger counts it: only once the driver has granted it. */
  isCounted: boolean;
}

/** A requested buffer, with the error if the driver refuses it. */
interface Request {
  readonly lease: Lease;
  readonly refusal: Promise<GPUError | null>;
}

/** Usage flags by name. WebGPU's own globals do not exist in Node. */
export const USAGE = {
  mapRead: 0x1,
  copySource: 0x4,
  copyTarget: 0x8,
  uniform: 0x40,
  storage: 0x80,
  queryResolve: 0x200,
} as const;

const STORAGE = USAGE.storage | USAGE.copySource | USAGE.copyTarget;

/**
 * Creates all GPU buffers. It keeps no free list: returned buffers go back to the driver, and `reserve` decides what plans
 * share.
 */
export class Pool {
  readonly ledger = new Ledger();
  #leases = new Map<Lease, LeaseRecord>();
  /** Requests of the `checked` call that is running. */
  #requests: Request[] | undefined;
  #isDisposed = false;

  constructor(private readonly device: GPUDevice) {}

  /**
   * Creates a buffer of `bytes` (rounded up to 4). Only within `checked` does a refusal by the driver become an error.
   * @throws LimitError above the device's largest buffer, DisposedError after `dispose`.
   */
  lease(bytes: number, lifetime: Lifetime, usage: number = STORAGE): Lease {
    if (this.#isDisposed) throw new DisposedError("This engine is disposed.", "Create a new one with createEngine().");
    const size = Math.max(4, Math.ceil(bytes / 4) * 4);
    const { maxBufferSize } = this.device.limits;
    if (size > maxBufferSize) {
      throw new LimitError(
        `A buffer of ${size} bytes is needed; this adapter allows at most ${maxBufferSize}.`,
        "Use a smaller batch, or an adapter with a larger maxBufferSize.",
      );
    }
    if (!this.#requests) {
      const lease = this.#record(this.device.createBuffer({ size, usage }), size, lifetime);
      this.#count(lease);
      return lease;
    }
    const { buffer, refusal } = this.#create({ size, usage });
    const lease = this.#record(buffer, size, lifetime);
    this.#requests.push({ lease, refusal });
    return lease;
  }

  #record(buffer: GPUBuffer, bytes: number, lifetime: Lifetime): Lease {
    const lease = { buffer, offset: 0, bytes } as const;
    this.#leases.set(lease, { lifetime, isCounted: false });
    return lease;
  }

  /** Creates a buffer in an error scope that is popped before the first await, so that it catches no other errors. */
  #create(descriptor: GPUBufferDescriptor): { buffer: GPUBuffer; refusal: Promise<GPUError | null> } {
    this.device.pushErrorScope("out-of-memory");
    let refusal: Promise<GPUError | null> | undefined;
    try {
      const buffer = this.device.createBuffer(descriptor);
      // A lost device rejects; `Device.check` reports the loss.
      refusal = this.device.popErrorScope().catch(() => null);
      return { buffer, refusal };
    } finally {
      if (!refusal) void this.device.popErrorScope().catch(() => null);
    }
  }

  /** Counts a lease in the ledger, unless it was returned already. */
  #count(lease: Lease): void {
    const record = this.#leases.get(lease);
    if (!record) return;
    this.ledger.add(record.lifetime, lease.bytes);
    record.isCounted = true;
  }

  /** Returns a buffer. The driver frees it once the work that uses it is done; see `flush`. */
  return(lease: Lease): void {
    const record = this.#leases.get(lease);
    if (!record) return;
    this.#leases.delete(lease);
    lease.buffer.destroy();
    if (record.isCounted) this.ledger.remove(record.lifetime, lease.bytes);
  }

  /** Changes the lifetime under which a buffer is counted. */
  relabel(lease: Lease, lifetime: Lifetime): void {
    const record = this.#leases.get(lease);
    if (!record || record.lifetime === lifetime) return;
    this.ledger.relabel(record.lifetime, lifetime, lease.bytes);
    record.lifetime = lifetime;
  }

  /**
   * Resolves when the driver has freed all returned buffers. Dawn frees a destroyed buffer when a later submit finds that
   * the submit after the destruction has completed, so two submits are needed. Each holds a command, since Dawn does not
   * pass empty submits to the driver.
   * @throws OutOfMemoryError when the driver has no memory even for that.
   */
  async flush(): Promise<void> {
    const bytes = 4;
    const { buffer, refusal } = this.#create({ size: bytes, usage: USAGE.copyTarget });
    const error = await refusal;
    if (error) throw this.#outOfMemory("a command", bytes, bytes, error);
    for (let submits = 0; submits < 2; submits++) {
      const encoder = this.device.createCommandEncoder();
      encoder.clearBuffer(buffer);
      this.device.queue.submit([encoder.finish()]);
      await this.device.queue.onSubmittedWorkDone();
    }
    buffer.destroy();
  }

  /**
   * Runs `allocate`, then checks that the driver granted all buffers; if not, they are all returned. `allocate` is
   * synchronous, and its buffers must not be used before this resolves.
   * @param purpose what the memory is for, as in "The driver has no memory for the adapter".
   * @throws OutOfMemoryError when the driver refuses a buffer; whatever `allocate` throws.
   */
  async checked<T>(purpose: string, allocate: () => T): Promise<T> {
    const outer = this.#requests;
    const requests: Request[] = (this.#requests = []);
    const returnAll = (): void => requests.forEach(({ lease }) => this.return(lease));
    let result: T;
    try {
      result = allocate();
    } catch (error) {
      returnAll();
      throw error;
    } finally {
      this.#requests = outer;
    }
    const refusals = await Promise.all(requests.map(({ refusal }) => refusal));
    const index = refusals.findIndex((refusal) => refusal !== null);
    const error = refusals[index];
    if (!error) {
      for (const { lease } of requests) this.#count(lease);
      return result;
    }
    returnAll();
    const requestedBytes = requests.reduce((sum, { lease }) => sum + lease.bytes, 0);
    throw this.#outOfMemory(purpose, requests[index]!.lease.bytes, requestedBytes, error);
  }

  #outOfMemory(purpose: string, refusedBytes: number, requestedBytes: number, { message }: GPUError): OutOfMemoryError {
    const { liveBytes } = this.ledger;
    const total = requestedBytes > refusedBytes ? `, ${requestedBytes} requested in total` : "";
    const reason = message.split("\n", 1)[0] ?? "";
    return new OutOfMemoryError(
      `The driver has no memory for ${purpose}: it refused ${refusedBytes} bytes${total}, with ${liveBytes} live (${reason}).`,
      "Use smaller batches or shorter texts, or pass memory.budget to learn this before anything is allocated.",
      { requestedBytes, liveBytes },
    );
  }

  /** Returns all buffers. */
  dispose(): void {
    for (const lease of [...this.#leases.keys()]) this.return(lease);
    this.#isDisposed = true;
  }
}
