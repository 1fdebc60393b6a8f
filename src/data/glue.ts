import type { DataError } from "../base/errors";
import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";
import type { Dataset, Example } from "./example";
import { GLUE_TASKS } from "./glue-tasks";
import type { GlueTask, GlueTaskName, Layout } from "./glue-tasks";
import { lineError } from "./text-file";
import { readTsv } from "./tsv";
import type { Row } from "./tsv";

/** Which layout of a task a file has. Only test files have no labels. */
export type GlueSplit = "labelled" | "test";

/**
 * Reads a file of a GLUE task.
 * @param split default "test" for files named test*.tsv, "labelled" for others.
 * @throws DataError with file and line for a missing column, a label that the task does not have, an empty text or an empty
 * file; FileFormatError if the file is missing.
 */
export async function readGlue(
  place: DirectoryLike,
  file: string,
  task: GlueTaskName,
  split: GlueSplit = /^test.*\.tsv$/.test(file) ? "test" : "labelled",
): Promise<Dataset> {
  const directory = await directoryAt(place);
  const rows = await readTsv(directory, file);
  return glueDataset(rows, GLUE_TASKS[task], split, `${file} in ${directory.name}`);
}

/** The examples in the rows of a file. Throws as `readGlue` does. @param where name of the file in errors. */
export function glueDataset(rows: readonly Row[], task: GlueTask, split: GlueSplit, where: string): Dataset {
  const layout = task[split];
  const labelColumn = split === "test" ? undefined : task.label.column;
  const width = layout.header
    ? checkHeader(rows[0]!, layout, task, labelColumn, where)
    : minimumWidth(layout, labelColumn);
  const examples: Example[] = [];
  let skipped = 0;
  for (const row of rows.slice(layout.header ? 1 : 0)) {
    const fault = rowFault(row, layout, width, where);
    if (fault === undefined) examples.push(example(row, layout, task, labelColumn, width, where));
    else if (task.skipsBroken === true) skipped++;
    else throw fault;
  }
  if (examples.length === 0) {
    throw lineError(where, rows.at(-1)!.line, "the file ends without an example", "give a file with at least one");
  }
  return { examples, labelNames: task.labelNames, skipped };
}

type LabelColumn = GlueTask["label"]["column"] | undefined;

/** Number of columns that every row must have. Checks the names in the header, since a file may lack one. */
function checkHeader(row: Row, layout: Layout, task: GlueTask, labelColumn: LabelColumn, where: string): number {
  const width = row.cells.length;
  const expected = [...layout.texts];
  if (labelColumn !== undefined) {
    expected.push({ column: labelColumn === "last" ? width - 1 : labelColumn, name: task.label.name });
  }
  for (const { column, name } of expected) {
    if (row.cells[column]?.trim() !== name) {
      const actual = JSON.stringify(row.cells[column] ?? "nothing");
      const fact = `the header has ${actual} as column ${column + 1}, not ${JSON.stringify(name)}`;
      throw lineError(where, row.line, fact, "keep the header and the columns of GLUE");
    }
  }
  return width;
}

function minimumWidth(layout: Layout, labelColumn: LabelColumn): number {
  const columns = layout.texts.map(({ column }) => column);
  return 1 + Math.max(...columns, typeof labelColumn === "number" ? labelColumn : 0);
}

function rowFault({ line, cells }: Row, layout: Layout, width: number, where: string): DataError | undefined {
  if (cells.length !== width) {
    return lineError(where, line, `${cells.length} columns, not ${width}`, "separate columns by one tab each");
  }
  const empty = layout.texts.find(({ column }) => cells[column]!.trim() === "");
  return empty && lineError(where, line, `the text in column ${empty.column + 1} is empty`, "fill it or drop the line");
}

function example(
  { line, cells }: Row,
  { texts }: Layout,
  task: GlueTask,
  labelColumn: LabelColumn,
  width: number,
  where: string,
): Example {
  const [text, pair] = texts.map(({ column }) => cells[column]!);
  const label =
    labelColumn === undefined
      ? -1
      : parseLabel(cells[labelColumn === "last" ? width - 1 : labelColumn]!, task, line, where);
  return { text: text!, ...(pair === undefined ? {} : { pair }), label };
}

function parseLabel(text: string, task: GlueTask, line: number, where: string): number {
  if (task.labels !== undefined) {
    const label = task.labels.indexOf(text.trim());
    if (label >= 0) return label;
    throw lineError(where, line, `the label ${shown(text)} is unknown`, `labels are ${task.labels.join(", ")}`);
  }
  const [minimum, maximum] = task.range ?? [-Infinity, Infinity];
  const value = text.trim() === "" ? NaN : Number(text);
  if (value >= minimum && value <= maximum) return value;
  throw lineError(
    where,
    line,
    `the label ${shown(text)} is not a number in range`,
    `labels are from ${minimum} to ${maximum}`,
  );
}

function shown(text: string): string {
  return JSON.stringify(text.slice(0, 40));
}
