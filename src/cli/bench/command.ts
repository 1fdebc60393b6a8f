import { SafetapeError } from "../../base/errors";
import { createEngine } from "../../node/index";
import type { Attributes, Op, OpCase } from "../../op/declaration";
import { casesToTime } from "../../testing/bench-op";
import type { OpTiming } from "../../testing/bench-op";
import { benchOps, benchRatio } from "../../testing/bench-result";
import type { BenchResult, BenchSubject } from "../../testing/bench-result";
import { caseOfShapes, readShapes } from "../../testing/case-of-shapes";
import { quickCeiling } from "../../testing/ceiling";
import { BENCH } from "../flags";
import { readOptions, UsageError } from "../options";
import type { Print, RawOptions } from "../options";
import { bar } from "../view/bars";
import { progressOn } from "../view/progress";
import { Screen } from "../view/screen";
import { readBenchResult } from "./result";
import { subjectOps } from "./subject";

/**
 * `safetape bench`: times ops on this adapter.
 * @param what name of an op, or a module that exports ops; all ops of the library if undefined.
 * @throws UsageError for what cannot be timed or compared with, before anything is timed.
 */
export async function benchCommand(what: string | undefined, raw: RawOptions, print: Print): Promise<void> {
  const { shapes, variants, compare, json } = readOptions(BENCH, raw);
  const other = compare === undefined ? undefined : await readBenchResult(compare);
  const subjects = subjectsOf(what, await subjectOps(what), shapes);
  const screen = new Screen(false);
  const progress = progressOn(screen);
  using engine = await createEngine();
  try {
    const ceiling = await progress("measuring the adapter's rates", () => quickCeiling(engine));
    const result = await progress("timing", (onProgress) =>
      benchOps(engine, subjects, { ceiling, variants, onTimings: (_, done, total) => onProgress(done, total) }),
    );
    if (json) print(JSON.stringify(result, undefined, 1));
    else printResult(result, print, other, variants);
  } finally {
    screen.end();
  }
}

/** @throws UsageError where shapes do not belong to the ops, or there is no case to time. */
function subjectsOf(what: string | undefined, ops: readonly Op[], shapes: string | undefined): BenchSubject[] {
  if (shapes !== undefined) {
    const [op, ...others] = ops;
    if (!op || others.length > 0) {
      const names = what === undefined ? "all ops" : ops.map(({ name }) => name).join(", ");
      throw new UsageError(`--shapes is given for ${names}.`, "It needs one op: safetape bench linear --shapes ...");
    }
    return [{ op, cases: casesOfShapes(op, shapes) }];
  }
  const subjects = ops.map((op) => ({ op, cases: casesToTime(op) }));
  // Small cases are for tests; when all ops are timed, those that have no other say nothing.
  if (what === undefined) return subjects.filter(({ cases }) => cases.some(({ bench }) => bench));
  const without = subjects.find(({ cases }) => cases.length === 0);
  if (without) throw new UsageError(`${without.op.name} has no cases.`, "Give it some, or --shapes of its inputs.");
  return subjects;
}

/** Cases of lists of shapes. @throws UsageError for those that do not fit. */
export function casesOfShapes(op: Op, lists: string): OpCase<Attributes>[] {
  try {
    return lists.split(";").map((list) => caseOfShapes(op, readShapes(list)));
  } catch (error) {
    throw error instanceof SafetapeError ? new UsageError(error.fact, error.remedy) : error;
  }
}

const CLOCKS: Readonly<Record<OpTiming["clock"], string>> = {
  device: "timestamps of the device around every dispatch",
  host: "the host's, around a whole run with its submission and uploads",
};

/** Width of a bar that stands for the adapter's rate. */
const BAR_WIDTH = 20;

/** Prints a table with a bar for each row: the larger of its shares of the adapter's two rates. */
function printResult(
  { safetape, adapter, driver, ceiling, timings }: BenchResult,
  print: Print,
  other: BenchResult | undefined,
  variants: boolean,
): void {
  print(`adapter   ${adapter}`);
  print(`driver    ${driver}`);
  print(`safetape  ${safetape}`);
  print(`clock     ${[...new Set(timings.map(({ clock }) => CLOCKS[clock]))].join("; ")}`);
  print(`rates     ${ceiling.gflops} GFLOP/s of multiply-adds, ${ceiling.gigabytesPerSecond} GB/s of copies`);
  if (other) print(`compared  ${other.adapter}, ${other.driver}, safetape ${other.safetape}`);
  print("");
  const percent = (share: number | undefined): string => (share === undefined ? "-" : `${(100 * share).toFixed(0)} %`);
  const number = (value: number | undefined): string =>
    value === undefined ? "-" : String(Number(value.toPrecision(3)));
  const rows = timings.map((timing) => [
    timing.op,
    timing.case,
    timing.pass,
    timing.variant,
    number(timing.ms),
    `${number(timing.fastestMs)} to ${number(timing.slowestMs)}`,
    number(timing.gflops),
    percent(timing.ofFmaRate),
    number(timing.gigabytesPerSecond),
    percent(timing.ofCopyRate),
    ...(other ? [number(benchRatio(other, timing, variants))] : []),
    bar(Math.max(timing.ofFmaRate, timing.ofCopyRate ?? 0), BAR_WIDTH),
  ]);
  const head = ["op", "case", "pass", "kernels", "ms", "from ... to", "GFLOP/s", "of rate", "GB/s", "of rate"];
  printTable([[...head, ...(other ? ["ms / other"] : []), "share of a rate"], ...rows], print);
}

/** Columns before it, and the last, are text. */
const FIRST_NUMBER = 4;

/** Prints rows of cells in columns: texts begin at the same place, numbers end there. */
function printTable(rows: readonly (readonly string[])[], print: Print): void {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const isNumber = widths.map((_, column) => column >= FIRST_NUMBER && column < widths.length - 1);
  for (const row of rows) {
    const cells = row.map((cell, i) => (isNumber[i] ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)));
    print(cells.join("  ").trimEnd());
  }
}
