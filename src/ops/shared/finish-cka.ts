import { DataError } from "../../base/errors";

/**
 * Linear CKA of two sets of activations, from the `sums` [3, tiles] of the op `cka`: ||Y^T X||^2 / (||X^T X|| ||Y^T Y||).
 *
 * @throws DataError where one side does not vary over the rows that count (or nothing counts): then CKA is undefined.
 */
export function finishCka(sums: ArrayLike<number>): number {
  const tiles = sums.length / 3;
  const norm = (which: number): number => {
    let total = 0;
    for (let tile = which * tiles; tile < (which + 1) * tiles; tile++) total += sums[tile]!;
    return total;
  };
  const [cross, x, y] = [norm(0), norm(1), norm(2)];
  if (!(x > 0) || !(y > 0)) {
    throw new DataError(
      `CKA is undefined: the squared norms of the two sides are ${x} and ${y}.`,
      "Probe with at least two rows that count and that differ.",
    );
  }
  return cross / Math.sqrt(x) / Math.sqrt(y);
}
