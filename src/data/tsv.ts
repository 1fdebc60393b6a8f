import type { Directory } from "../io/directory";
import { readLines } from "./text-file";
import type { Line } from "./text-file";

/** One row of a table. `line` is its number in the file, from 1. */
export interface Row {
  readonly line: number;
  readonly cells: readonly string[];
}

/**
 * A tab-separated file's rows, every line one row: quotes mean nothing, as in GLUE's files. Throws DataError for an empty
 * file or invalid UTF-8 (naming the line), FileFormatError where the file is missing.
 */
export async function readTsv(directory: Directory, file: string): Promise<Row[]> {
  return (await readLines(directory, file)).map(splitRow);
}

export function splitRow({ number, text }: Line): Row {
  return { line: number, cells: text.split("\t") };
}
