import { DataError } from "../base/errors";
import { Random } from "../base/random";
import { bucketLength, makeBatch } from "./batch";
import type { Batch, BatchShape, LabelKind } from "./batch";
import { checkedPlace } from "./place";
import type { BatchState } from "./place";
import type { Sample } from "./sample";

export interface BatchOptions {
  /** Rows of a batch. */
  readonly size: number;
  /** Longest row. A sample that is longer is an error; the longest sample's length by default. */
  readonly maxLength?: number;
  /** Rows are padded to a multiple of this (8 by default), at most to maxLength: fewer shapes, fewer plans. */
  readonly multiple?: number;
  /** Id of padding; 0 by default. */
  readonly padId?: number;
  /** "class" by default. */
  readonly labels?: LabelKind;
  /** Another order in every epoch, from `seed`; true by default. */
  readonly shuffle?: boolean;
  /** Any safe integer; 0 by default. */
  readonly seed?: number;
  /**
   * The last batch of an epoch, where samples are left: "pad" fills it with rows that no loss counts (one plan fewer),
   * "keep" gives a smaller batch, "drop" leaves it out. "pad" by default, "keep" for "value" labels, whose padding rows
   * are right only where the loss leaves out IGNORED_LABEL.
   */
  readonly partial?: "pad" | "keep" | "drop";
}

/**
 * Endless batches over samples, epoch after epoch. The order of an epoch depends on seed and epoch alone, so two numbers
 * are enough to resume. Throws DataError for options that make no batch.
 */
export class Batches {
  readonly perEpoch: number;
  readonly #shape: Omit<BatchShape, "length"> & { readonly maxLength: number; readonly multiple: number };
  readonly #options: Required<Pick<BatchOptions, "shuffle" | "seed" | "partial">>;
  #epoch = 0;
  #position = 0;
  #order: Uint32Array | undefined;

  constructor(
    readonly samples: readonly Sample[],
    options: BatchOptions,
  ) {
    const { size, multiple = 8, padId = 0, labels = "class", shuffle = true, seed = 0 } = options;
    const { partial = labels === "value" ? "keep" : "pad", maxLength = longest(samples) } = options;
    for (const [name, value] of Object.entries({ size, multiple, maxLength })) checkCount(name, value);
    checkSamples(samples, maxLength);
    this.#shape = { size, padId, labels, maxLength, multiple };
    this.#options = { shuffle, seed, partial };
    this.perEpoch = partial === "drop" ? Math.floor(samples.length / size) : Math.ceil(samples.length / size);
    if (this.perEpoch === 0) {
      throw new DataError(`${samples.length} samples make no batch of ${size}`, "give more samples or smaller batches");
    }
  }

  /** Epoch of the next batch, from 0. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Batches of this epoch that were handed out. */
  get position(): number {
    return this.#position;
  }

  /** The next batch; after an epoch's last one the next epoch begins. */
  next(): Batch {
    const { size, maxLength, multiple } = this.#shape;
    const order = (this.#order ??= this.#orderOf(this.#epoch));
    const start = this.#position * size;
    const ids = Int32Array.from(order.subarray(start, start + size));
    const chosen = Array.from(ids, (index) => this.samples[index]!);
    const rows = this.#options.partial === "pad" ? size : chosen.length;
    const batch = makeBatch(chosen, {
      ...this.#shape,
      size: rows,
      length: bucketLength(longest(chosen), maxLength, multiple),
    });
    this.#advance();
    return { ...batch, ids };
  }

  /** What is left of the current epoch. */
  *restOfEpoch(): Generator<Batch, void, undefined> {
    const { epoch } = this;
    while (this.epoch === epoch) yield this.next();
  }

  save(): BatchState {
    const { size } = this.#shape;
    const { seed } = this.#options;
    return { epoch: this.#epoch, position: this.#position, samples: this.samples.length, size, seed };
  }

  /** Goes on where `save` was called. Throws DataError where samples, batch size or seed are not the same. */
  resume(saved: unknown): void {
    const { epoch, position } = checkedPlace(saved, this.save(), this.perEpoch);
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
    return this.#options.shuffle ? new Random(this.#options.seed, epoch).shuffle(order) : order;
  }
}

function longest(samples: readonly Sample[]): number {
  return samples.reduce((most, { ids }) => Math.max(most, ids.length), 0);
}

function checkCount(name: string, value: number): void {
  if (Number.isSafeInteger(value) && value >= 1) return;
  throw new DataError(`a batch cannot have the ${name} ${value}`, `${name} is a whole number from 1 on`);
}

function checkSamples(samples: readonly Sample[], maxLength: number): void {
  const bad = samples.findIndex(({ ids }) => ids.length === 0 || ids.length > maxLength);
  if (bad < 0) return;
  throw new DataError(
    `sample ${bad + 1} has ${samples[bad]!.ids.length} tokens, but rows have 1 to ${maxLength}`,
    "truncate longer texts when they are encoded, and leave out empty ones",
  );
}
