import type { Kernel } from "../../op/kernel";
import { bindRows, rowRanges } from "../../op/launch";
import type { Launch, RowRange } from "../../op/launch";
import type { Limits } from "../../op/limits";

const GROUP = 64;
const CHUNK_ROWS = 32;

/** Chunks that a sum over `rows` rows is made from. */
export function chunkCount(rows: number): number {
  return Math.ceil(rows / CHUNK_ROWS);
}

/** The first stage of a sum over rows: one row of partial sums per chunk of rows, one invocation a chunk and column. */
export interface ChunkSums {
  readonly kernel: Kernel;
  readonly entry: string;
  readonly rows: number;
  readonly columns: number;
  /** Variables, named as their slots, with a row per row of the sum, and the bytes of such a row: cut by chunks. */
  readonly tables: Readonly<Record<string, number>>;
  /** Variable -> slot of what every launch binds whole: the partial sums [chunks, columns] among them. */
  readonly whole: Readonly<Record<string, string>>;
  /** Fields of `Params` beside `rows`, `columns` and `chunk0`. */
  readonly params: Readonly<Record<string, number>>;
}

/** The launches of the first stage; `columnSumLaunches` over the partial sums is the second. */
export function chunkSumLaunches(sums: ChunkSums, limits: Limits): Launch[] {
  return chunkRanges(sums, limits).map((chunks) => {
    const start = chunks.start * CHUNK_ROWS;
    const range = { start, count: Math.min(chunks.count * CHUNK_ROWS, sums.rows - start) };
    return {
      kernel: sums.kernel,
      entry: sums.entry,
      bindings: {
        ...Object.fromEntries(Object.entries(sums.tables).map(([slot, bytes]) => [slot, bindRows(slot, range, bytes)])),
        ...sums.whole,
      },
      params: { ...sums.params, rows: range.count, columns: sums.columns, chunk0: chunks.start },
      constants: { CHUNK_ROWS },
      workgroups: chunks.count * Math.ceil(sums.columns / GROUP),
    };
  });
}

function chunkRanges({ rows, tables }: ChunkSums, limits: Limits): RowRange[] {
  const bytes = Object.values(tables);
  // The last chunk may be smaller than the others, and so may all that fits one binding.
  if (rows * Math.max(...bytes) <= limits.bindingBytes) return [{ start: 0, count: chunkCount(rows) }];
  return rowRanges(
    chunkCount(rows),
    bytes.map((perRow) => perRow * CHUNK_ROWS),
    limits,
  );
}
