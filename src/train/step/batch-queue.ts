import type { Batch } from "../../data/batch";
import type { BatchSource } from "../options";

/** Position of a run in its data, as plain JSON. */
export interface DataPosition {
  /** What `save` of the data returned; undefined for data that cannot save their position. */
  readonly state?: unknown;
  /** Batches that steps have used. */
  readonly batches: number;
}

/** The current position of the data. */
export function positionIn(data: BatchSource, batches = 0): DataPosition {
  const state = data.resume && data.save?.();
  return state === undefined ? { batches } : { batches, state };
}

/** The batches of a run, one step's at a time. The next step's can be read before they are taken. */
export class BatchQueue {
  /** The next step's batches, or the error that drawing them threw. */
  #next: { readonly batches: readonly Batch[] } | { readonly error: unknown } | undefined;
  /** Batches to use before those that the data give next. */
  #queue: Batch[];
  /** Batches drawn since the last mark, for data that cannot go back by themselves. */
  #sinceMark: Batch[] | undefined;
  /** Position of the step whose batches were drawn last. */
  #drawnFrom: DataPosition;
  #taken: number;

  /**
   * @param batchesPerStep batches of one optimizer step. The last step of an epoch has what is left, as in transformers' Trainer.
   * @param first batches that were drawn already, and the position of the data before them.
   */
  constructor(
    private readonly data: BatchSource,
    private readonly batchesPerStep: number,
    first: { readonly batches: readonly Batch[]; readonly position: DataPosition },
  ) {
    this.#queue = [...first.batches];
    this.#drawnFrom = first.position;
    this.#taken = first.position.batches;
  }

  /**
   * The batches from a position on, in data of which one batch was drawn already.
   * @param first that batch, and the position before it.
   */
  static from(
    data: BatchSource,
    batchesPerStep: number,
    { first, start }: { readonly first: Batch; readonly start: DataPosition },
    position: DataPosition,
  ): BatchQueue {
    if (position.state !== undefined && data.resume) {
      data.resume(position.state);
      return new BatchQueue(data, batchesPerStep, { batches: [], position });
    }
    if (position.batches === 0) return new BatchQueue(data, batchesPerStep, { batches: [first], position: start });
    for (let drawn = 1; drawn < position.batches; drawn++) data.next();
    return new BatchQueue(data, batchesPerStep, { batches: [], position });
  }

  /** Position at which the next step begins, whether or not its batches were read already. */
  get position(): DataPosition {
    const isDrawn = this.#next !== undefined || this.#queue.length > 0;
    return isDrawn && this.#drawnFrom.state !== undefined ? this.#drawnFrom : positionIn(this.data, this.#taken);
  }

  /** Takes the next step's batches. @throws the error of the data, even where `peek` met it first. */
  take(): readonly Batch[] {
    const next = this.#next ?? { batches: this.#draw() };
    this.#next = undefined;
    if ("error" in next) throw next.error;
    this.#taken += next.batches.length;
    return next.batches;
  }

  /** Makes batches that were just taken the next step's again. */
  putBack(batches: readonly Batch[]): void {
    this.#next = { batches };
    this.#taken -= batches.length;
  }

  /** The next step's batches, without taking them; undefined where drawing them failed. */
  peek(): readonly Batch[] | undefined {
    try {
      this.#next ??= { batches: this.#draw() };
    } catch (error) {
      this.#next = { error };
    }
    return "batches" in this.#next ? this.#next.batches : undefined;
  }

  /** Remembers the position, so that `rewind` can return to it. */
  mark(): DataPosition {
    const { position } = this;
    if (position.state === undefined) {
      const drawn = this.#next && "batches" in this.#next ? this.#next.batches : [];
      this.#sinceMark = [...drawn];
    }
    return position;
  }

  /** Returns to the position of the last mark. */
  rewind(position: DataPosition): void {
    const canGoBack = position.state !== undefined;
    if (canGoBack) this.data.resume?.(position.state);
    this.#queue = canGoBack ? [] : [...(this.#sinceMark ?? []), ...this.#queue];
    this.#sinceMark = canGoBack ? undefined : [];
    this.#next = undefined;
    this.#drawnFrom = position;
    this.#taken = position.batches;
  }

  #draw(): readonly Batch[] {
    if (this.#queue.length === 0) this.#drawnFrom = positionIn(this.data, this.#taken);
    return Array.from({ length: Math.min(this.batchesPerStep, this.#leftInEpoch()) }, () => {
      const batch = this.#queue.shift() ?? this.data.next();
      this.#sinceMark?.push(batch);
      return batch;
    });
  }

  /** Batches until the end of the epoch, counted from the start of the run. */
  #leftInEpoch(): number {
    const { perEpoch } = this.data;
    return perEpoch >= 1 ? perEpoch - (this.#taken % perEpoch) : this.batchesPerStep;
  }
}
