import { elementKernel, elementWorkgroups } from "../../op/element";
import type { Kernel } from "../../op/kernel";
import { bindRows, rowRanges } from "../../op/launch";
import type { Launch, RowRange } from "../../op/launch";
import type { Limits } from "../../op/limits";

/** An entry that computes each element independently. All tensors have four-byte elements. */
export interface Elementwise {
  /** Imports lib/element. */
  readonly kernel: Kernel;
  readonly entry: string;
  /** Slots, and WGSL variables of the same names, of `count` elements each. They are cut if they exceed a binding. */
  readonly tensors: readonly string[];
  /** Slots, and WGSL variables of the same names, that every launch binds completely. */
  readonly whole?: readonly string[];
  readonly count: number;
  /** Tensors are cut only between rows of this many elements; default 1. */
  readonly columns?: number;
  /** The elements of a vector lie within a period of this many; default `columns`. */
  readonly period?: number;
  /** Values of the kernel's constants. */
  readonly constants?: Readonly<Record<string, number>>;
  /** Fields of `Params` other than `count`, for a range of rows. */
  params?(range: RowRange): Record<string, number>;
}

/** The launches of an elementwise entry. */
export function elementwiseLaunches(entry: Elementwise, limits: Limits): Launch[] {
  const { columns: width = 1, count } = entry;
  const element = elementKernel(entry.kernel, [count, entry.period ?? entry.columns ?? count]);
  return rowRanges(count / width, [width * 4], limits).map((range) => ({
    ...element,
    constants: { ...element.constants, ...entry.constants },
    entry: entry.entry,
    bindings: {
      ...Object.fromEntries(entry.tensors.map((slot) => [slot, bindRows(slot, range, width * 4)])),
      ...Object.fromEntries((entry.whole ?? []).map((slot) => [slot, slot])),
    },
    params: { count: range.count * width, ...entry.params?.(range) },
    workgroups: elementWorkgroups(range.count * width, element),
  }));
}

/** The field `accumulate` of `Params`. */
export function accumulateParam(context: { readonly accumulate: boolean }): { accumulate: number } {
  return { accumulate: context.accumulate ? 1 : 0 };
}
