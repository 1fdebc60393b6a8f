import type { Kernel } from "../../op/kernel";
import { bindRows, rowRanges } from "../../op/launch";
import type { Launch, RowRange } from "../../op/launch";
import type { Limits } from "../../op/limits";

/** Invocations of a workgroup, and elements that one of them handles, a workgroup's width apart. */
const GROUP = 64;
const PER_INVOCATION = 4;

/** One entry that handles each element of tensors of four-byte elements by itself. */
export interface Elementwise {
  readonly kernel: Kernel;
  readonly entry: string;
  /** Variables, named as their slots, that hold `count` elements each: cut where they exceed a binding. */
  readonly tensors: readonly string[];
  /** Variables that every launch binds whole. */
  readonly whole?: readonly string[];
  readonly count: number;
  /** A cut falls only between rows of this many elements; default 1. */
  readonly columns?: number;
  /** Fields of `Params` beside `count`, for a range of rows. */
  params?(range: RowRange): Record<string, number>;
}

/** The launches of an elementwise entry. */
export function elementwiseLaunches(entry: Elementwise, limits: Limits): Launch[] {
  const width = entry.columns ?? 1;
  return rowRanges(entry.count / width, [width * 4], limits).map((range) => ({
    kernel: entry.kernel,
    entry: entry.entry,
    bindings: {
      ...Object.fromEntries(entry.tensors.map((slot) => [slot, bindRows(slot, range, width * 4)])),
      ...Object.fromEntries((entry.whole ?? []).map((slot) => [slot, slot])),
    },
    params: { count: range.count * width, ...entry.params?.(range) },
    constants: { PER_INVOCATION },
    workgroups: Math.ceil((range.count * width) / (GROUP * PER_INVOCATION)),
  }));
}

/** `accumulate` as a field of `Params`. */
export function accumulateParam(context: { readonly accumulate: boolean }): { accumulate: number } {
  return { accumulate: context.accumulate ? 1 : 0 };
}
