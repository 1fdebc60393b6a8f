import type { Kernel } from "../../op/kernel";
import { elementKernel, elementWorkgroups } from "../../op/element";
import { bindRows, rowRanges } from "../../op/launch";
import type { Launch, RowRange } from "../../op/launch";
import type { Limits } from "../../op/limits";

const CHUNK_ROWS = 32;

/** Number of chunks into which the sum over `rows` rows is split. */
export function chunkCount(rows: number): number {
  return Math.ceil(rows / CHUNK_ROWS);
}

/**
 * The first stage of a sum over rows, which writes a row of partial sums for each chunk of rows. Each invocation sums
 * one element of a row over one chunk.
 */
export interface ChunkSums {
  readonly kernel: Kernel;
  readonly entry: string;
  readonly rows: number;
  readonly columns: number;
  /** Slot, and WGSL variable of the same name -> bytes of a row. These tensors have `rows` rows, cut by chunks. */
  readonly tables: Readonly<Record<string, number>>;
  /** WGSL variable -> slot that every launch binds completely. One of them is the partial sums [chunks, columns]. */
  readonly whole: Readonly<Record<string, string>>;
  /** Fields of `Params` other than `rows`, `columns` and `chunk0`. */
  readonly params: Readonly<Record<string, number>>;
}

/** Launches of the first stage. The second is `columnSumLaunches` over the partial sums. */
export function chunkSumLaunches(sums: ChunkSums, limits: Limits): Launch[] {
  const element = elementKernel(sums.kernel, [sums.columns]);
  return chunkRanges(sums, limits).map((chunks) => {
    const start = chunks.start * CHUNK_ROWS;
    const range = { start, count: Math.min(chunks.count * CHUNK_ROWS, sums.rows - start) };
    return {
      kernel: element.kernel,
      entry: sums.entry,
      bindings: {
        ...Object.fromEntries(Object.entries(sums.tables).map(([slot, bytes]) => [slot, bindRows(slot, range, bytes)])),
        ...sums.whole,
      },
      params: { ...sums.params, rows: range.count, columns: sums.columns, chunk0: chunks.start },
      constants: { ...element.constants, CHUNK_ROWS },
      workgroups: chunks.count * elementWorkgroups(sums.columns, element),
    };
  });
}

function chunkRanges({ rows, tables }: ChunkSums, limits: Limits): RowRange[] {
  const bytes = Object.values(tables);
  // The last chunk may be shorter, so that tensors may fit one binding although all chunks at full length would not.
  if (rows * Math.max(...bytes) <= limits.bindingBytes) return [{ start: 0, count: chunkCount(rows) }];
  return rowRanges(
    chunkCount(rows),
    bytes.map((perRow) => perRow * CHUNK_ROWS),
    limits,
  );
}
