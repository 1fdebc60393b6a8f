import type { Directory } from "../io/directory";
import { lineError, readLines } from "./text-file";
import type { OnBadLine } from "./text-file";

/** A row of a CSV file. */
export interface CsvRow {
  /** Number of its first line, counted from 1. */
  readonly line: number;
  readonly cells: readonly string[];
}

/**
 * Reads the rows of a CSV file (RFC 4180: cells may be quoted, and quoted cells may contain line ends), the header included if
 * there is one.
 * @param options.width cells that every row must have. Default: those of the first row.
 * @param options.onBadLine what is told of a faulty row, which is then left out. Default: the error is thrown.
 * @throws DataError with the line for malformed CSV, a row of another width, text that is not UTF-8, and an empty file.
 */
export async function readCsv(
  directory: Directory,
  file: string,
  { width, onBadLine }: { readonly width?: number; readonly onBadLine?: OnBadLine } = {},
): Promise<CsvRow[]> {
  const where = `${file} in ${directory.name}`;
  const text = (await readLines(directory, file)).map((line) => line.text).join("\n");
  const { default: papa } = await import("papaparse");
  const rows: CsvRow[] = [];
  let [line, read] = [1, 0];
  papa.parse<string[]>(text, {
    delimiter: ",",
    step({ data, errors, meta }) {
      const expected = width ?? rows[0]?.cells.length ?? data.length;
      const wrongWidth = data.length === expected ? undefined : `${data.length} cells, not ${expected}`;
      const fault = errors[0]?.message ?? wrongWidth;
      if (fault === undefined) rows.push({ line, cells: data });
      else {
        const error = lineError(where, line, fault, "quote cells with commas, and close quotes");
        if (!onBadLine) throw error;
        onBadLine(error, line);
      }
      // A quoted cell may contain line ends, so the line is counted from the text before the row.
      line += text.slice(read, meta.cursor).split("\n").length - 1;
      read = meta.cursor;
    },
  });
  return rows;
}
