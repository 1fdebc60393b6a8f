// Tables: CSV, TSV and JSON lines of flat objects, with what is wrong in which line.
import { DataError } from "../../../src/base/errors";
import { readCsv } from "../../../src/data/csv";
import { parseJsonLine } from "../../../src/data/jsonl";
import { readLines } from "../../../src/data/text-file";
import { readTsv } from "../../../src/data/tsv";
import type { Directory } from "../../../src/io/directory";
import type { Mapping, Problem, StudioTask } from "../protocol";

export interface TableRow {
  /** Number of its line, counted from 1. */
  readonly line: number;
  readonly cells: readonly string[];
}

export interface Table {
  readonly file: string;
  /** Names of the columns: those of the first row, or "column 1" and so on. */
  readonly columns: readonly string[];
  readonly header: boolean;
  readonly rows: readonly TableRow[];
}

/** Collects what is wrong with lines. */
export class Problems {
  readonly first: Problem[] = [];
  count = 0;

  add(file: string, line: number | undefined, fact: string, remedy: string): void {
    this.count++;
    if (this.first.length < 20) this.first.push({ file, line, fact, remedy });
  }

  /** Adds a reader's error, without the name of the file in front of it. */
  addError(file: string, line: number | undefined, { fact, remedy }: DataError): void {
    this.add(file, line, fact.replace(/^.*?, line \d+: /, ""), remedy);
  }
}

/** Reads a table. @param header whether the first row has names. Default: a guess. @throws DataError for a file without rows. */
export async function readTable(
  directory: Directory,
  file: string,
  problems: Problems,
  header?: boolean,
): Promise<Table> {
  const name = file.toLowerCase();
  if (name.endsWith(".jsonl")) return objectTable(directory, file, problems);
  const all = name.endsWith(".csv")
    ? await readCsv(directory, file, { onBadLine: (error, line) => problems.addError(file, line, error) })
    : await rowsOfTsv(directory, file, problems);
  const hasHeader = header ?? seemsHeader(all);
  const [first] = all;
  const columns = (first?.cells ?? []).map((cell, i) => (hasHeader && cell.trim() !== "" ? cell : `column ${i + 1}`));
  const rows = hasHeader ? all.slice(1) : all;
  if (rows.length > 0) return { file, columns, header: hasHeader, rows };
  throw new DataError(`${file} has no rows that can be read`, "give a table with at least two");
}

async function rowsOfTsv(directory: Directory, file: string, problems: Problems): Promise<TableRow[]> {
  const rows = (await readTsv(directory, file)).filter(({ cells }) => cells.some((cell) => cell.trim() !== ""));
  const width = rows[0]?.cells.length ?? 0;
  return rows.filter(({ line, cells }) => {
    if (cells.length === width) return true;
    const found = cells.length === 1 ? "1 column" : `${cells.length} columns`;
    problems.add(file, line, `${found}, not ${width}`, "Separate columns by one tab each.");
    return false;
  });
}

/** Whether no cell of the first row is a number, or occurs again in its column. */
function seemsHeader([first, ...rest]: readonly TableRow[]): boolean {
  if (!first || rest.length === 0) return false;
  const later = rest.slice(0, 200);
  return first.cells.every(
    (cell, i) =>
      cell.length <= 40 &&
      (cell.trim() === "" || Number.isNaN(Number(cell))) &&
      !later.some(({ cells }) => cells[i] === cell),
  );
}

async function objectTable(directory: Directory, file: string, problems: Problems): Promise<Table> {
  const objects: { readonly line: number; readonly value: Readonly<Record<string, unknown>> }[] = [];
  for (const line of await readLines(directory, file)) {
    if (line.text.trim() === "") continue;
    try {
      const value = parseJsonLine(line, file);
      if (typeof value !== "object" || value === null || Array.isArray(value)) {
        throw new DataError("not a JSON object", "write one JSON object in each line");
      }
      // What is an object and not a list has names.
      objects.push({ line: line.number, value: value as Readonly<Record<string, unknown>> });
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      problems.addError(file, line.number, error);
    }
  }
  const columns = [...new Set(objects.flatMap(({ value }) => Object.keys(value)))];
  const cellOf = (value: unknown): string =>
    typeof value === "string" ? value : value === undefined || value === null ? "" : JSON.stringify(value);
  const rows = objects.map(({ line, value }) => ({ line, cells: columns.map((name) => cellOf(value[name])) }));
  if (rows.length > 0) return { file, columns, header: true, rows };
  throw new DataError(`${file} has no lines that can be read`, "write one JSON object in each line");
}

const LABEL_NAME = /^(?:label|labels|class|category|target|sentiment|intent|topic|y)$/i;
const ANSWER_NAME = /^(?:answer|output|completion|response|target|summary|reply)$/i;

/** What the columns of a table seem to be. */
export function guessColumns({ columns, rows }: Table, task: StudioTask): Pick<Mapping, "text" | "pair" | "label"> {
  const sample = rows.slice(0, 1000);
  const lengths = columns.map((_, i) => sample.reduce((sum, { cells }) => sum + cells[i]!.length, 0));
  const distinct = columns.map((_, i) => new Set(sample.map(({ cells }) => cells[i])).size);
  const named = columns.findIndex((name) => (task === "classify" ? LABEL_NAME : ANSWER_NAME).test(name.trim()));
  const fewest = distinct.indexOf(Math.min(...distinct.filter((count) => count > 1), Infinity));
  const label = named >= 0 ? named : task === "classify" && fewest >= 0 ? fewest : columns.length - 1;
  const others = lengths.map((length, i) => (i === label ? -1 : length));
  return { text: others.indexOf(Math.max(...others)), pair: -1, label };
}
