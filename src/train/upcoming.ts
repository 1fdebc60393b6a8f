import type { Batch } from "../data/batch";

/** The batches of a step at a time; the next step's may be looked at before their turn. */
export class Upcoming {
  #first: Batch | undefined;
  #looked: { readonly batches: readonly Batch[] } | { readonly error: unknown } | undefined;

  constructor(
    private readonly next: () => Batch,
    /** Batches of a step. */
    private readonly count: number,
    first: Batch,
  ) {
    this.#first = first;
  }

  /** The run's first batch, before its step. */
  get first(): Batch | undefined {
    return this.#first;
  }

  /** The next step's batches. @throws what the data threw, though it was thrown when they were looked at. */
  take(): readonly Batch[] {
    const looked = this.#looked ?? { batches: this.#draw() };
    this.#looked = undefined;
    if ("error" in looked) throw looked.error;
    return looked.batches;
  }

  /** What was taken is next again, ahead of what was looked at since. */
  putBack(batches: readonly Batch[]): void {
    this.#looked = { batches };
  }

  /** The next step's batches, which stay next; undefined where there are none to be had. */
  look(): readonly Batch[] | undefined {
    try {
      this.#looked ??= { batches: this.#draw() };
    } catch (error) {
      this.#looked = { error };
    }
    return "batches" in this.#looked ? this.#looked.batches : undefined;
  }

  #draw(): readonly Batch[] {
    return Array.from({ length: this.count }, () => {
      const batch = this.#first ?? this.next();
      this.#first = undefined;
      return batch;
    });
  }
}
