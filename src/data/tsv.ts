import type { Directory } from "../io/directory";
import { readLines } from "./text-file";

/** A row of a table. */
export interface Row {
  /** Number of its line, counted from 1. */
  readonly line: number;
  readonly cells: readonly string[];
}

/**
 * Reads the rows of a tab-separated file. Every line is a row, and quotes have no meaning, as in GLUE's files. Throws as
 * `readLines` does.
 */
export async function readTsv(directory: Directory, file: string): Promise<Row[]> {
  const lines = await readLines(directory, file);
  return lines.map(({ number, text }) => ({ line: number, cells: text.split("\t") }));
}
