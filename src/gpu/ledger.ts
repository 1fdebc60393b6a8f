/**
 * How long a buffer lives. `weight`: base weights; `state`: adapter tensors, gradients, optimizer moments; `saved`: kept
 * from forward to backward; `scratch`: everything else.
 */
export type Lifetime = "weight" | "state" | "saved" | "scratch";

export const LIFETIMES: readonly Lifetime[] = ["weight", "state", "saved", "scratch"];

/** Bytes by lifetime. */
export type Bytes = Readonly<Record<Lifetime, number>>;

/** Sum over the lifetimes. */
export const sumBytes = (bytes: Bytes): number => LIFETIMES.reduce((sum, lifetime) => sum + bytes[lifetime], 0);

/** No bytes of any lifetime. */
export const noBytes = (): Record<Lifetime, number> => ({ weight: 0, state: 0, saved: 0, scratch: 0 });

/** Counts every byte of GPU memory that this library asks the driver for. */
export class Ledger {
  #live = noBytes();
  #peak = noBytes();
  #returned = 0;
  #buffers = 0;

  /** Bytes that exist now. */
  get live(): Bytes {
    return { ...this.#live };
  }

  /** Bytes by lifetime at the moment when most existed. */
  get peak(): Bytes {
    return { ...this.#peak };
  }

  get liveBytes(): number {
    return sumBytes(this.#live);
  }

  get peakBytes(): number {
    return sumBytes(this.#peak);
  }

  /** Bytes given back to the driver since the start. */
  get returnedBytes(): number {
    return this.#returned;
  }

  /** Number of GPU buffers that exist now. */
  get buffers(): number {
    return this.#buffers;
  }

  /** Starts a new peak from what is live now. */
  resetPeak(): void {
    this.#peak = { ...this.#live };
  }

  add(lifetime: Lifetime, bytes: number): void {
    this.#live[lifetime] += bytes;
    this.#buffers++;
    if (this.liveBytes > this.peakBytes) this.#peak = { ...this.#live };
  }

  remove(lifetime: Lifetime, bytes: number): void {
    this.#live[lifetime] -= bytes;
    this.#returned += bytes;
    this.#buffers--;
  }

  /** A buffer changes its lifetime without being made anew. */
  relabel(from: Lifetime, to: Lifetime, bytes: number): void {
    this.#live[from] -= bytes;
    this.#live[to] += bytes;
    if (this.liveBytes === this.peakBytes) this.#peak = { ...this.#live };
  }
}
