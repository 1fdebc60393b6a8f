import type { Engine } from "../../engine";
import { createEngine } from "../../node/index";
import { versions } from "../../node/versions";
import type { Attributes, Op, OpCase } from "../../op/declaration";
import { benchOp, casesToTime } from "../../testing/bench-op";
import type { OpTiming } from "../../testing/bench-op";
import { quickCeiling } from "../../testing/ceiling";
import { BENCH } from "../flags";
import { readOptions, UsageError } from "../options";
import type { Print, RawOptions } from "../options";
import { bar } from "../view/bars";
import { progressOn } from "../view/progress";
import { Screen } from "../view/screen";
import { readBenchResult } from "./result";
import type { BenchResult } from "./result";
import { caseOfShapes, readShapes, subjectOps } from "./subject";

/** An op with the cases that are timed. */
interface Subject {
  readonly op: Op;
  readonly cases: readonly OpCase<Attributes>[];
}

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
    const timings = await progress("timing", async (onProgress) => {
      const cases = subjects.flatMap(({ op, cases }) => cases.map((test) => ({ op, test })));
      const all: OpTiming[] = [];
      for (const [i, { op, test }] of cases.entries()) {
        onProgress(i, cases.length);
        all.push(...(await benchOp(engine, op, [test], { ceiling, variants })));
      }
      return all;
    });
    const result: BenchResult = {
      safetape: (await versions())["safetape"] ?? "",
      ...adapterOf(engine),
      ceiling: { gflops: digits(ceiling.gflops), gigabytesPerSecond: digits(ceiling.gigabytesPerSecond) },
      timings: timings.map(rounded),
    };
    if (json) print(JSON.stringify(result, undefined, 1));
    else printResult(result, print, other, variants);
  } finally {
    screen.end();
  }
}

/** @throws UsageError where shapes do not belong to the ops, or there is no case to time. */
function subjectsOf(what: string | undefined, ops: readonly Op[], shapes: string | undefined): Subject[] {
  if (shapes !== undefined) {
    const [op, ...others] = ops;
    if (!op || others.length > 0) {
      const names = what === undefined ? "all ops" : ops.map(({ name }) => name).join(", ");
      throw new UsageError(`--shapes is given for ${names}.`, "It needs one op: safetape bench linear --shapes ...");
    }
    return [{ op, cases: shapes.split(";").map((list) => caseOfShapes(op, readShapes(list))) }];
  }
  const subjects = ops.map((op) => ({ op, cases: casesToTime(op) }));
  // Small cases are for tests; when all ops are timed, those that have no other say nothing.
  if (what === undefined) return subjects.filter(({ cases }) => cases.some(({ bench }) => bench));
  const without = subjects.find(({ cases }) => cases.length === 0);
  if (without) throw new UsageError(`${without.op.name} has no cases.`, "Give it some, or --shapes of its inputs.");
  return subjects;
}

const adapterOf = ({ info }: Engine): Pick<BenchResult, "adapter" | "driver"> => ({
  adapter: info.device || info.vendor,
  driver: info.description,
});

const digits = (value: number): number => Number(value.toPrecision(4));

function rounded({ gigabytesPerSecond, ofCopyRate, ...timing }: OpTiming): BenchResult["timings"][number] {
  return {
    ...timing,
    ms: digits(timing.ms),
    fastestMs: digits(timing.fastestMs),
    slowestMs: digits(timing.slowestMs),
    gflops: digits(timing.gflops),
    ofFmaRate: digits(timing.ofFmaRate),
    ...(gigabytesPerSecond !== undefined && { gigabytesPerSecond: digits(gigabytesPerSecond) }),
    ...(ofCopyRate !== undefined && { ofCopyRate: digits(ofCopyRate) }),
  };
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
    ...(other ? [number(ratioTo(other, timing, variants))] : []),
    bar(Math.max(timing.ofFmaRate, timing.ofCopyRate ?? 0), BAR_WIDTH),
  ]);
  const head = ["op", "case", "pass", "kernels", "ms", "from ... to", "GFLOP/s", "of rate", "GB/s", "of rate"];
  printTable([[...head, ...(other ? ["ms / other"] : []), "share of a rate"], ...rows], print);
}

/** Milliseconds as a multiple of the other result's, for the same case and, if each was timed, variant. */
function ratioTo(other: BenchResult, timing: BenchResult["timings"][number], variants: boolean): number | undefined {
  const same = other.timings.find(
    (candidate) =>
      candidate.op === timing.op &&
      candidate.case === timing.case &&
      candidate.pass === timing.pass &&
      (!variants || candidate.variant === timing.variant),
  );
  return same && timing.ms / same.ms;
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
