import type { HostTensor } from "../io/safetensors";
import type { StepReport } from "../train/loop/reports";

/** Describes packed step reports: the columns of their numbers, and the other values of the few steps that have any. */
export interface ReportTable {
  /** Names of the columns. A number in a nested object has a name with a dot: `bytes.saved`. */
  readonly columns: readonly string[];
  /** Values that are not numbers, by the report's index. */
  readonly rest: readonly (readonly [index: number, values: Readonly<Record<string, unknown>>])[];
}

/** Marks a number that a report does not have: a NaN with bits that no computation produces. */
const MISSING = [0x5afe7a9e, 0x7ff85afe] as const;

/** Packs reports for a checkpoint: their numbers, bit by bit, as a tensor [reports, columns, 2] of 32-bit words. */
export function packReports(reports: readonly StepReport[]): {
  readonly table: ReportTable;
  readonly bits: HostTensor;
} {
  const rows = reports.map(split);
  const columns = [...new Set(rows.flatMap(({ numbers }) => [...numbers.keys()]))];
  const data = new Int32Array(rows.length * columns.length * 2);
  const [words, number] = numberAsWords();
  rows.forEach(({ numbers }, row) => {
    columns.forEach((name, column) => {
      const value = numbers.get(name);
      number[0] = value ?? 0;
      data.set(value === undefined ? MISSING : words, (row * columns.length + column) * 2);
    });
  });
  const rest = rows.flatMap(({ others }, i) => (Object.keys(others).length > 0 ? [[i, others] as const] : []));
  return { table: { columns, rest }, bits: { shape: [rows.length, columns.length, 2], data } };
}

/** The reports that `packReports` packed. Properties that were undefined may be missing. */
export function unpackReports({ columns, rest }: ReportTable, { shape, data }: HostTensor): StepReport[] {
  const [words, number] = numberAsWords();
  const others = new Map(rest);
  return Array.from({ length: shape[0] ?? 0 }, (_, row) => {
    const report: Record<string, unknown> = { freezes: [], skipped: [], ...others.get(row) };
    columns.forEach((name, column) => {
      const start = (row * columns.length + column) * 2;
      words.set(data.subarray(start, start + 2));
      if (words[0] === MISSING[0] && words[1] === MISSING[1]) return;
      const [outer = "", inner] = name.split(".");
      if (inner === undefined) report[outer] = number[0];
      // A dotted name is the only writer of its outer property, which is therefore an object or not yet there.
      else report[outer] = { ...(report[outer] as object | undefined), [inner]: number[0] };
    });
    // The columns and the rest are those of a StepReport, which the compiler cannot see.
    return report as unknown as StepReport;
  });
}

/** Two views of one number: its two 32-bit words, and its value. */
function numberAsWords(): [Int32Array, Float64Array] {
  const number = new Float64Array(1);
  return [new Int32Array(number.buffer), number];
}

function split(report: StepReport): { numbers: Map<string, number>; others: Record<string, unknown> } {
  const numbers = new Map<string, number>();
  const others: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(report)) {
    if (typeof value === "number") numbers.set(name, value);
    else if (isNumberRecord(value))
      for (const [key, number] of Object.entries(value)) numbers.set(`${name}.${key}`, number);
    else if (value !== undefined && !(Array.isArray(value) && value.length === 0)) others[name] = value;
  }
  return { numbers, others };
}

const isNumberRecord = (value: unknown): value is Record<string, number> =>
  typeof value === "object" &&
  value !== null &&
  !Array.isArray(value) &&
  Object.entries(value).every(([key, entry]) => typeof entry === "number" && !key.includes("."));
