import { DataError } from "../../base/errors";
import { Random } from "../../base/random";
import { DATA_SEED } from "./draw-examples";

/**
 * How papers make validation and test data of published data, whose test labels are hidden: halves of the dev set
 * ("half-dev"); 1,000 or a tenth of the training examples for validation, the dev set for tests ("train-1000",
 * "train-tenth"); MNLI's mismatched dev set for validation, the matched one for tests ("mismatched").
 */
export const SPLITS = ["half-dev", "train-1000", "train-tenth", "mismatched"] as const;

export type Split = (typeof SPLITS)[number];

/** The examples of each part. */
export interface Parts<T> {
  readonly train: readonly T[];
  /** What the best state is chosen by. */
  readonly validation: readonly T[];
  /** Empty without a split. */
  readonly test: readonly T[];
}

/**
 * Splits published data. Without a split, the dev set is the validation set.
 * @throws DataError if there are too few examples.
 */
export function publishedSplit<T>(split: Split | undefined, train: readonly T[], dev: readonly T[]): Parts<T> {
  if (split === undefined || split === "mismatched") return { train, validation: dev, test: [] };
  if (split === "half-dev") {
    const { chosen, rest } = drawn(dev, Math.floor(dev.length / 2), "the dev set");
    return { train, validation: chosen, test: rest };
  }
  const count = split === "train-1000" ? 1000 : Math.round(train.length / 10);
  const { chosen, rest } = drawn(train, count, "the training set");
  return { train: rest, validation: chosen, test: dev };
}

/** Draws `count` of the examples at random; both parts keep their order. */
function drawn<T>(all: readonly T[], count: number, what: string): { readonly chosen: T[]; readonly rest: T[] } {
  if (count < 1 || count >= all.length) {
    const fact = `${what} has ${all.length} examples, of which ${count} cannot be kept back`;
    throw new DataError(fact, "leave out --split (--split files with a recipe), or give more data");
  }
  const order = new Random(DATA_SEED).shuffle(Uint32Array.from(all, (_, i) => i));
  const isChosen = new Set(order.subarray(0, count));
  return { chosen: all.filter((_, i) => isChosen.has(i)), rest: all.filter((_, i) => !isChosen.has(i)) };
}
