import type { RowRange } from "../../data/split";
import type { TrainerOptions } from "../options";
import type { PlanBook } from "../plans/plan-book";
import type { Share } from "../world";

/**
 * Lets steps run as many rows of a batch at the same time as a share has at most.
 * @returns whether that changes plans.
 */
export function limitBook(book: PlanBook, share: Share, options: Pick<TrainerOptions, "accumulate" | "loss">) {
  const size = book.largestSize;
  const together = rowsTogether(options);
  const total = size * (options.accumulate ?? 1);
  let most = together;
  // The last step of an epoch has fewer rows, of which rounding may give one more to this device.
  for (let rows = together; rows <= total; rows += together) {
    const { from, to } = rowsOf(share, rows, together);
    most = Math.max(most, to - from);
  }
  return book.limitRows(Math.min(size, most));
}

/** Rows that a batch is not cut between. */
export const rowsTogether = ({ loss }: Pick<TrainerOptions, "loss">): number =>
  typeof loss === "object" ? loss.rowsTogether : 1;

/** The rows of a share, of so many rows in all. Rows that belong together stay together. */
export function rowsOf({ start, end, total }: Share, rows: number, together = 1): RowRange {
  const bound = (weight: number): number => Math.min(rows, Math.round((rows * weight) / total / together) * together);
  return { from: bound(start), to: end === total ? rows : bound(end) };
}
