import type { Batch } from "../../data/batch";
import type { BatchSource } from "../options";

/** Where a run is in its data, plain JSON. */
export interface DataPosition {
  /** What `save` of the data gave, where there is such a thing. */
  readonly state?: unknown;
  /** Batches that steps have had. */
  readonly batches: number;
}

/** Where data are now, if they can say so. */
export const positionIn = (data: BatchSource, batches = 0): DataPosition => {
  const state = data.resume && data.save?.();
  return { batches, ...(state !== undefined && { state }) };
};

/** The batches of a step at a time; the next step's may be looked at before their turn. */
export class BatchQueue {
  #looked: { readonly batches: readonly Batch[] } | { readonly error: unknown } | undefined;
  /** Batches that come before what the data give next. */
  #queue: Batch[];
  /** Batches that were drawn since the last mark, for data that cannot go back. */
  #sinceMark: Batch[] | undefined;
  /** Where the step begins whose batches were drawn last. */
  #before: DataPosition;
  #taken = 0;

  /**
   * @param count batches of a step.
   * @param first batches that were drawn already, and where the data were before that.
   */
  constructor(
    private readonly data: BatchSource,
    private readonly count: number,
    first: { readonly batches: readonly Batch[]; readonly place: DataPosition },
  ) {
    this.#queue = [...first.batches];
    this.#before = first.place;
    this.#taken = first.place.batches;
  }

  /** Where the next step begins: what was only looked at is not passed. */
  get place(): DataPosition {
    const isPending = this.#looked !== undefined || this.#queue.length > 0;
    return isPending && this.#before.state !== undefined ? this.#before : positionIn(this.data, this.#taken);
  }

  /** The next step's batches. @throws what the data threw, though it was thrown when they were looked at. */
  take(): readonly Batch[] {
    const looked = this.#looked ?? { batches: this.#draw() };
    this.#looked = undefined;
    if ("error" in looked) throw looked.error;
    this.#taken += looked.batches.length;
    return looked.batches;
  }

  /** What was taken just now is next again. */
  putBack(batches: readonly Batch[]): void {
    this.#looked = { batches };
    this.#taken -= batches.length;
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

  /** From now on what is drawn can be had again by `rewind`, at the next step's batches. */
  mark(): DataPosition {
    const { place } = this;
    if (place.state === undefined) {
      const looked = this.#looked && "batches" in this.#looked ? this.#looked.batches : [];
      this.#sinceMark = [...looked];
    }
    return place;
  }

  /** Goes back to the last mark, which was at this place. */
  rewind(place: DataPosition): void {
    const canGoBack = place.state !== undefined;
    if (canGoBack) this.data.resume?.(place.state);
    this.#queue = canGoBack ? [] : [...(this.#sinceMark ?? []), ...this.#queue];
    this.#sinceMark = canGoBack ? undefined : [];
    this.#looked = undefined;
    this.#before = place;
    this.#taken = place.batches;
  }

  #draw(): readonly Batch[] {
    if (this.#queue.length === 0) this.#before = positionIn(this.data, this.#taken);
    return Array.from({ length: this.count }, () => {
      const batch = this.#queue.shift() ?? this.data.next();
      this.#sinceMark?.push(batch);
      return batch;
    });
  }
}

/** What comes from a place on, where the first batch was drawn already. */
export function queueFrom(
  data: BatchSource,
  count: number,
  { first, start }: { readonly first: Batch; readonly start: DataPosition },
  place: DataPosition,
): BatchQueue {
  if (place.state !== undefined && data.resume) {
    data.resume(place.state);
    return new BatchQueue(data, count, { batches: [], place });
  }
  if (place.batches === 0) return new BatchQueue(data, count, { batches: [first], place: start });
  for (let drawn = 1; drawn < place.batches; drawn++) data.next();
  return new BatchQueue(data, count, { batches: [], place });
}
