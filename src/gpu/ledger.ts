/**
 * How long a buffer lives. `weight`: base weights; `state`: adapter tensors, gradients, optimizer moments; `saved`:
 * activations kept for the backward pass; `scratch`: everything else.
 */
export type Lifetime = "weight" | "state" | "saved" | "scratch";

export const LIFETIMES: readonly Lifetime[] = ["weight", "state", "saved", "scratch"];

/** Bytes by lifetime. */
export type Bytes = Readonly<Record<Lifetime, number>>;

/** Sum over all lifetimes. */
export const sumBytes = (bytes: Bytes): number => LIFETIMES.reduce((sum, lifetime) => sum + bytes[lifetime], 0);

/** Zero bytes of every lifetime. */
export const noBytes = (): Record<Lifetime, number> => ({ weight: 0, state: 0, saved: 0, scratch: 0 });

/** Counts every byte of GPU memory that this library allocates. */
export class Ledger {
  #live = noBytes();
  #peak = noBytes();
  #returned = 0;
  #buffers = 0;

  /** Bytes that are allocated now, by lifetime. */
  get live(): Bytes {
    return { ...this.#live };
  }

  /** Bytes by lifetime at the moment when most were allocated. */
  get peak(): Bytes {
    return { ...this.#peak };
  }

  get liveBytes(): number {
    return sumBytes(this.#live);
  }

  get peakBytes(): number {
    return sumBytes(this.#peak);
  }

  /** Bytes returned to the driver since the start. */
  get returnedBytes(): number {
    return this.#returned;
  }

  /** Number of GPU buffers that are allocated now. */
  get buffers(): number {
    return this.#buffers;
  }

  /** Resets the peak to the bytes that are live now. */
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

  /** Moves a buffer's bytes from one lifetime to another. */
  relabel(from: Lifetime, to: Lifetime, bytes: number): void {
    this.#live[from] -= bytes;
    this.#live[to] += bytes;
    if (this.liveBytes === this.peakBytes) this.#peak = { ...this.#live };
  }
}
