import { DataError } from "../base/errors";
import { makeBatch } from "../data/batch";
import type { Batch } from "../data/batch";
import { Batches } from "../data/batches";
import type { BatchOptions } from "../data/batches";
import type { PreferencePair, ReferencedPair } from "./pairs";

/** Options of `Batches`; `size` is a number of pairs. */
export type PreferenceBatchOptions = Omit<BatchOptions, "labels">;

/**
 * Endless batches of pairs, epoch after epoch, as those of `Batches`. A pair is two rows, the chosen answer's and then the rejected one's,
 * so that a batch has twice as many rows as pairs.
 * @throws DataError as `Batches`, and for a pair without a reference.
 */
export class PreferenceBatches {
  /** Decides order, sizes and lengths by the longer sample of each pair. */
  readonly #longer: Batches;

  constructor(
    readonly pairs: readonly ReferencedPair[],
    private readonly options: PreferenceBatchOptions,
  ) {
    // A program without types may give pairs that have none.
    const without = pairs.findIndex((pair) => !Number.isFinite((pair as Partial<ReferencedPair>).reference?.chosen));
    if (without >= 0) {
      throw new DataError(`pair ${without + 1} has no reference`, "take the pairs that withReference returns");
    }
    this.#longer = new Batches(pairs.map(longerOf), { ...options, labels: "token" });
  }

  get perEpoch(): number {
    return this.#longer.perEpoch;
  }

  /** The next batch. After the last one of an epoch, the next epoch begins. */
  next(): Batch {
    return this.#batchOf(this.#longer.next());
  }

  /** The batches that are left in the current epoch. */
  *restOfEpoch(): Generator<Batch, void, undefined> {
    for (const batch of this.#longer.restOfEpoch()) yield this.#batchOf(batch);
  }

  /** The current position, for `resume`. */
  save(): unknown {
    return this.#longer.save();
  }

  /** Continues where `save` was called. @throws DataError as that of `Batches`. */
  resume(saved: unknown): void {
    this.#longer.resume(saved);
  }

  #batchOf({ ids = new Int32Array(), size, length }: Batch): Batch {
    const pairs = Array.from(ids, (index) => this.pairs[index]!);
    const { padId = 0 } = this.options;
    const reference = new Float32Array(2 * size);
    reference.set(pairs.flatMap((pair) => [pair.reference.chosen, pair.reference.rejected]));
    return {
      ...makeBatch(
        pairs.flatMap(({ chosen, rejected }) => [chosen, rejected]),
        { size: 2 * size, length, padId, labels: "token" },
      ),
      ids: Int32Array.from({ length: 2 * ids.length }, (_, row) => 2 * ids[row >> 1]! + (row % 2)),
      reference,
    };
  }
}

const longerOf = ({ chosen, rejected }: PreferencePair) =>
  chosen.ids.length >= rejected.ids.length ? chosen : rejected;
