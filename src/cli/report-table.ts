import type { HostTensor } from "../io/safetensors";
import type { StepReport } from "../train/loop/reports";

/** Reports of many steps, small: their numbers as one table, and what else they hold for the few steps that have it. */
export interface ReportTable {
  /** Names of the table's columns, nested ones with a dot. */
  readonly columns: readonly string[];
  /** By the report's index. */
  readonly rest: readonly (readonly [index: number, values: Readonly<Record<string, unknown>>])[];
}

/** Stands for a number that a report does not have; no computation gives these bits. */
const NONE = [0x5afe7a9e, 0x7ff85afe] as const;

/** The numbers as their 64 bits: [reports, columns, 2]. */
export function packReports(reports: readonly StepReport[]): {
  readonly table: ReportTable;
  readonly bits: HostTensor;
} {
  const rows = reports.map(split);
  const columns = [...new Set(rows.flatMap(({ numbers }) => [...numbers.keys()]))];
  const data = new Int32Array(rows.length * columns.length * 2);
  const [words, number] = wordsOfNumber();
  rows.forEach(({ numbers }, row) => {
    columns.forEach((name, column) => {
      const value = numbers.get(name);
      number[0] = value ?? 0;
      data.set(value === undefined ? NONE : words, (row * columns.length + column) * 2);
    });
  });
  const rest = rows.flatMap(({ others }, i) => (Object.keys(others).length > 0 ? [[i, others] as const] : []));
  return { table: { columns, rest }, bits: { shape: [rows.length, columns.length, 2], data } };
}

/** The reports that were packed; what was empty or undefined in them may be left out. */
export function unpackReports({ columns, rest }: ReportTable, { shape, data }: HostTensor): StepReport[] {
  const [words, number] = wordsOfNumber();
  const others = new Map(rest);
  return Array.from({ length: shape[0] ?? 0 }, (_, row) => {
    const report: Record<string, unknown> = { freezes: [], skipped: [], ...others.get(row) };
    columns.forEach((name, column) => {
      words.set((data as Int32Array).subarray((row * columns.length + column) * 2).subarray(0, 2));
      if (words[0] === NONE[0] && words[1] === NONE[1]) return;
      const [outer = "", inner] = name.split(".");
      if (inner === undefined) report[outer] = number[0];
      else report[outer] = { ...(report[outer] as object | undefined), [inner]: number[0] };
    });
    return report as unknown as StepReport;
  });
}

function wordsOfNumber(): [Int32Array, Float64Array] {
  const number = new Float64Array(1);
  return [new Int32Array(number.buffer), number];
}

function split(report: StepReport): { numbers: Map<string, number>; others: Record<string, unknown> } {
  const numbers = new Map<string, number>();
  const others: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(report)) {
    if (typeof value === "number") numbers.set(name, value);
    else if (isTable(value)) for (const [key, own] of Object.entries(value)) numbers.set(`${name}.${key}`, own);
    else if (value !== undefined && !(Array.isArray(value) && value.length === 0)) others[name] = value;
  }
  return { numbers, others };
}

const isTable = (value: unknown): value is Record<string, number> =>
  typeof value === "object" &&
  value !== null &&
  !Array.isArray(value) &&
  Object.entries(value).every(([key, own]) => typeof own === "number" && !key.includes("."));
