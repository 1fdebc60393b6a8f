import { DisposedError, LimitError, OutOfMemoryError } from "../base/errors";
import { Ledger } from "./ledger";
import type { Lifetime } from "./ledger";

/** A GPU buffer that somebody owns. Whoever leased it returns it. */
export interface Lease {
  readonly buffer: GPUBuffer;
  readonly bytes: number;
  readonly lifetime: Lifetime;
}

/** A lease as the pool knows it. */
interface Held extends Lease {
  lifetime: Lifetime;
  /** False until the driver has granted it. */
  isCounted: boolean;
}

/** A buffer that was asked for, and whether the driver refused it. */
interface Asked {
  readonly lease: Held;
  readonly refusal: Promise<GPUError | null>;
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
  /** What `checked` is asking for right now. */
  #asked: Asked[] | undefined;
  #isDisposed = false;

  constructor(private readonly device: GPUDevice) {}

  /**
   * A new buffer of `bytes` (rounded up to 4). Only within `checked` is it told where the driver has no memory for it.
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
    const lease = (buffer: GPUBuffer): Held => ({ buffer, bytes: size, lifetime, isCounted: false });
    if (!this.#asked) return this.#count(lease(this.device.createBuffer({ size, usage })));
    const { buffer, refusal } = this.#create({ size, usage });
    const asked = { lease: lease(buffer), refusal };
    this.#asked.push(asked);
    this.#leases.add(asked.lease);
    return asked.lease;
  }

  /** A scope of its own for each buffer: it is pushed and popped at once, so that no other work falls into it. */
  #create(descriptor: GPUBufferDescriptor): { buffer: GPUBuffer; refusal: Promise<GPUError | null> } {
    this.device.pushErrorScope("out-of-memory");
    let refusal: Promise<GPUError | null> | undefined;
    try {
      const buffer = this.device.createBuffer(descriptor);
      // A device that is lost answers by rejecting, and says so itself.
      refusal = this.device.popErrorScope().catch(() => null);
      return { buffer, refusal };
    } finally {
      if (!refusal) void this.device.popErrorScope().catch(() => null);
    }
  }

  #count(lease: Held): Held {
    this.#leases.add(lease);
    this.ledger.add(lease.lifetime, lease.bytes);
    lease.isCounted = true;
    return lease;
  }

  /** Gives a buffer back. The driver frees it once the work that uses it is done; see `flush`. */
  return(lease: Lease): void {
    if (!this.#leases.delete(lease)) return;
    lease.buffer.destroy();
    if ((lease as Held).isCounted) this.ledger.remove(lease.lifetime, lease.bytes);
  }

  /** Puts a buffer under another lifetime. */
  relabel(lease: Lease, lifetime: Lifetime): void {
    if (lease.lifetime === lifetime || !this.#leases.has(lease)) return;
    this.ledger.relabel(lease.lifetime, lifetime, lease.bytes);
    (lease as Held).lifetime = lifetime;
  }

  /**
   * Resolves when returned buffers have really gone back. Dawn frees a destroyed buffer when it next looks after the
   * submit that follows the destruction has completed: the first submit here is for the one, the second for the other.
   * Each holds a command, since Dawn hands no empty submit to the driver.
   * @throws OutOfMemoryError when there is no memory even for that.
   */
  async flush(): Promise<void> {
    const { buffer, refusal } = this.#create({ size: 4, usage: USAGE.copyTarget });
    const refused = await refusal;
    if (refused) throw outOfMemory("a command", { refused: 4, asked: 4, live: this.ledger.liveBytes }, refused.message);
    for (let submits = 0; submits < 2; submits++) {
      const encoder = this.device.createCommandEncoder();
      encoder.clearBuffer(buffer);
      this.device.queue.submit([encoder.finish()]);
      await this.device.queue.onSubmittedWorkDone();
    }
    buffer.destroy();
  }

  /**
   * Runs `allocate`, which leases at once and does not wait, and checks that the driver had the memory; if not, all that
   * was leased is returned. What is leased must not be used before.
   * @throws OutOfMemoryError naming `what`; whatever `allocate` throws.
   */
  async checked<T>(what: string, allocate: () => T): Promise<T> {
    const outer = this.#asked;
    const asked: Asked[] = (this.#asked = []);
    const giveBack = (): void => asked.forEach(({ lease }) => this.return(lease));
    let result: T;
    try {
      result = allocate();
    } catch (error) {
      giveBack();
      throw error;
    } finally {
      this.#asked = outer;
    }
    const refusals = await Promise.all(asked.map(({ refusal }) => refusal));
    const refused = refusals.findIndex((refusal) => refusal !== null);
    if (refused < 0) {
      // What was returned while it was asked for is not counted.
      for (const { lease } of asked) if (this.#leases.has(lease)) this.#count(lease);
      return result;
    }
    giveBack();
    const bytes = asked[refused]!.lease.bytes;
    const wanted = asked.reduce((sum, { lease }) => sum + lease.bytes, 0);
    throw outOfMemory(what, { refused: bytes, asked: wanted, live: this.ledger.liveBytes }, refusals[refused]?.message);
  }

  dispose(): void {
    for (const lease of [...this.#leases]) this.return(lease);
    this.#isDisposed = true;
  }
}

function outOfMemory(
  what: string,
  { refused, asked, live }: { readonly refused: number; readonly asked: number; readonly live: number },
  message = "",
): OutOfMemoryError {
  const inAll = asked > refused ? `, ${asked} asked for in all` : "";
  const said = message.split("\n", 1)[0] ?? "";
  return new OutOfMemoryError(
    `The driver has no memory for ${what}: it refused ${refused} bytes${inAll}, with ${live} live (${said}).`,
    "Use smaller batches or shorter texts, or pass memoryBudget to be told before anything is allocated.",
    { requestedBytes: asked, liveBytes: live },
  );
}
