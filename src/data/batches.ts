import { DataError } from "../base/errors";
import { Random } from "../base/random";
import { bucketLength, makeBatch } from "./batch";
import type { Batch, BatchShape, LabelKind } from "./batch";
import { resumedPosition } from "./batch-state";
import type { BatchState } from "./batch-state";
import type { Sample } from "./sample";

export interface BatchOptions {
  /** Rows of a batch. */
  readonly size: number;
  /** Maximum length of a row. A longer sample is an error. Default: the length of the longest sample. */
  readonly maxLength?: number;
  /** Rows are padded to a multiple of this, but at most to `maxLength`, so that fewer plans are needed. Default 8. */
  readonly multiple?: number;
  /** Token id of padding. Default 0. */
  readonly padId?: number;
  /** Kind of the labels. Default "class". */
  readonly labels?: LabelKind;
  /** Whether every epoch has another order, which `seed` decides, and what puts it into further order. Default true. */
  readonly shuffle?: boolean | Shuffle;
  /** Any safe integer. Default 0. */
  readonly seed?: number;
  /**
   * What to do with the last batch of an epoch if it is not full: "pad" adds rows that the loss does not count (this needs
   * one plan fewer), "keep" makes a smaller batch, "drop" skips it. Default "pad"; for "value" labels "keep", since not every
   * loss of a regression skips IGNORED_LABEL.
   */
  readonly partial?: "pad" | "keep" | "drop";
}

/**
 * Orders an epoch further: from a random order of the samples' indices to another, such as `groupByLength`. It depends on its
 * arguments alone.
 */
export type Shuffle = (order: Uint32Array, samples: readonly Sample[], size: number) => Uint32Array;

/**
 * Endless batches of samples, epoch after epoch. The order of an epoch depends only on the seed and the epoch's number, so
 * two numbers are enough to resume.
 * @throws DataError for options out of range, for samples that are empty or too long, and for too few samples.
 */
export class Batches {
  readonly perEpoch: number;
  readonly #shape: Pick<BatchShape, "size" | "padId" | "labels"> & {
    readonly maxLength: number;
    readonly multiple: number;
    /** Length of the longest text to write; undefined for other labels. */
    readonly longestTarget: number | undefined;
  };
  readonly #options: Required<Pick<BatchOptions, "shuffle" | "seed" | "partial">>;
  #epoch = 0;
  #position = 0;
  #order: Uint32Array | undefined;

  constructor(
    readonly samples: readonly Sample[],
    options: BatchOptions,
  ) {
    const { size, multiple = 8, padId = 0, labels = "class", shuffle = true, seed = 0 } = options;
    const { partial = labels === "value" ? "keep" : "pad", maxLength = longestOf(samples, lengthOf) } = options;
    for (const [name, value] of Object.entries({ size, multiple, maxLength })) checkCount(name, value);
    checkSamples(samples, maxLength);
    const longestTarget = labels === "target" ? longestOf(samples, targetLength) : undefined;
    this.#shape = { size, padId, labels, maxLength, multiple, longestTarget };
    this.#options = { shuffle, seed, partial };
    this.perEpoch = partial === "drop" ? Math.floor(samples.length / size) : Math.ceil(samples.length / size);
    if (this.perEpoch === 0) {
      throw new DataError(
        `${samples.length} samples do not make a batch of ${size}`,
        "give more samples or smaller batches",
      );
    }
  }

  /** Epoch of the next batch, counted from 0. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Number of batches of this epoch before the next one. */
  get position(): number {
    return this.#position;
  }

  /** The next batch. After the last one of an epoch, the next epoch begins. */
  next(): Batch {
    const { size, maxLength, multiple, longestTarget } = this.#shape;
    const order = (this.#order ??= this.#orderOf(this.#epoch));
    const start = this.#position * size;
    const ids = Int32Array.from(order.subarray(start, start + size));
    const samples = Array.from(ids, (index) => this.samples[index]!);
    const batch = makeBatch(samples, {
      ...this.#shape,
      size: this.#options.partial === "pad" ? size : samples.length,
      length: bucketLength(longestOf(samples, lengthOf), maxLength, multiple),
      targetLength: longestTarget && bucketLength(longestOf(samples, targetLength), longestTarget, multiple),
    });
    this.#advance();
    return { ...batch, ids };
  }

  /** The batches that are left in the current epoch. */
  *restOfEpoch(): Generator<Batch, void, undefined> {
    const { epoch } = this;
    while (this.epoch === epoch) yield this.next();
  }

  /** The current position, for `resume`. */
  save(): BatchState {
    const { size } = this.#shape;
    const { seed } = this.#options;
    return { epoch: this.#epoch, position: this.#position, samples: this.samples.length, size, seed };
  }

  /** Continues where `save` was called. @throws DataError if the number of samples, the batch size or the seed differ. */
  resume(saved: unknown): void {
    const { epoch, position } = resumedPosition(saved, this.save(), this.perEpoch);
    this.#epoch = epoch;
    this.#position = position;
    this.#order = undefined;
  }

  #advance(): void {
    this.#position++;
    if (this.#position < this.perEpoch) return;
    this.#position = 0;
    this.#epoch++;
    this.#order = undefined;
  }

  #orderOf(epoch: number): Uint32Array {
    const order = Uint32Array.from(this.samples, (_, index) => index);
    const { shuffle, seed } = this.#options;
    if (!shuffle) return order;
    new Random(seed, epoch).shuffle(order);
    return shuffle === true ? order : shuffle(order, this.samples, this.#shape.size);
  }
}

const lengthOf = ({ ids }: Sample): number => ids.length;
const targetLength = ({ label }: Sample): number => (typeof label === "number" ? 0 : label.length);

/** The largest of the samples' lengths. */
function longestOf(samples: readonly Sample[], length: (sample: Sample) => number): number {
  return samples.reduce((longest, sample) => Math.max(longest, length(sample)), 0);
}

function checkCount(name: string, value: number): void {
  if (Number.isSafeInteger(value) && value >= 1) return;
  throw new DataError(`a batch cannot have the ${name} ${value}`, `give a whole number of at least 1`);
}

function checkSamples(samples: readonly Sample[], maxLength: number): void {
  const bad = samples.findIndex(({ ids }) => ids.length === 0 || ids.length > maxLength);
  if (bad < 0) return;
  throw new DataError(
    `sample ${bad + 1} has ${samples[bad]!.ids.length} tokens, but rows have 1 to ${maxLength}`,
    "truncate longer texts when they are encoded, and leave out empty ones",
  );
}
