import type { Kernel } from "./kernel";
import type { Limits } from "./limits";
import { LimitError } from "../base/errors";

/** A part of a slot's bytes, for a table that is larger than one binding. */
export interface SlotRange {
  readonly slot: string;
  /** First byte; a multiple of `Limits.offsetAlignment`. */
  readonly offset: number;
  readonly bytes: number;
}

/**
 * One dispatch, as data: which entry of which kernel, what each of its WGSL variables is bound to, the fields of its
 * `Params`, and how many workgroups it needs in all. Nothing here touches a device.
 */
export interface Launch {
  readonly kernel: Kernel;
  readonly entry: string;
  /** WGSL variable -> slot of the op (or a range of one). */
  readonly bindings: Readonly<Record<string, string | SlotRange>>;
  /** Field of the kernel's `Params` struct -> value. Every field must be given. */
  readonly params: Readonly<Record<string, number>>;
  /** Values for the kernel's named top-level constants that must be known when the module is made. */
  readonly constants?: Readonly<Record<string, number>>;
  /** Linear count; laid out as a two-dimensional grid where it exceeds the adapter's limit. */
  readonly workgroups: number;
  /** Other ways to run it. */
  readonly variants?: readonly Variant[];
  /** One dispatch in place of this one and the next. */
  readonly joint?: Joint;
  /** By what a tuner may take this launch for one that it has timed. */
  readonly shape?: LaunchShape;
}

/** What does the same as a launch and the one after it, with the first one's params. */
export interface Joint {
  readonly entry: string;
  /** WGSL variables that it binds, as one of the two does. */
  readonly variables: readonly string[];
  /** The ways to run it; without one the two launches run. */
  readonly variants: readonly Variant[];
}

/** What decides which variant is fastest, beside the entry. */
export interface LaunchShape {
  /** Rounded to powers of two. */
  readonly sizes: Readonly<Record<string, number>>;
  /** Formats and layouts, taken as they are. */
  readonly traits: readonly string[];
}

/** Another way to run a launch: the same entry, bindings, params and, unless it rounds, bits, in another time. */
export interface Variant {
  readonly name: string;
  readonly kernel: Kernel;
  readonly constants: Readonly<Record<string, number>>;
  readonly workgroups: number;
  /** Invocations that every subgroup of the adapter must have. */
  readonly subgroup?: number;
  /** What it computes: small work is not worth a pipeline of its own. */
  readonly flops: number;
  /** Whether it sums in another order. */
  readonly rounds?: boolean;
}

/** A run of rows of a table. */
export interface RowRange {
  readonly start: number;
  readonly count: number;
}

const greatestCommonDivisor = (a: number, b: number): number => (b === 0 ? a : greatestCommonDivisor(b, a % b));

/**
 * Cuts `count` rows into ranges such that, for every table of the given bytes per row that is cut alike, no range
 * exceeds a binding and every range starts at an aligned byte.
 *
 * @throws LimitError when a single aligned step of rows does not fit one binding.
 */
export function rowRanges(count: number, bytesPerRow: readonly number[], limits: Limits): RowRange[] {
  const widest = Math.max(...bytesPerRow, 1);
  if (count * widest <= limits.bindingBytes) return [{ start: 0, count }];
  const step = bytesPerRow
    .map((bytes) => limits.offsetAlignment / greatestCommonDivisor(bytes, limits.offsetAlignment))
    .reduce((a, b) => (a * b) / greatestCommonDivisor(a, b), 1);
  const size = Math.floor(Math.floor(limits.bindingBytes / widest) / step) * step;
  if (size === 0) {
    throw new LimitError(
      `A row of ${widest} bytes cannot be bound: this adapter binds at most ${limits.bindingBytes} bytes at once.`,
      "Use an adapter with a larger maxStorageBufferBindingSize, or a narrower tensor.",
    );
  }
  const ranges: RowRange[] = [];
  for (let start = 0; start < count; start += size) ranges.push({ start, count: Math.min(size, count - start) });
  return ranges;
}

/** The bytes of `slot` that hold the rows of `range`. */
export function bindRows(slot: string, range: RowRange, bytesPerRow: number): SlotRange {
  return { slot, offset: range.start * bytesPerRow, bytes: range.count * bytesPerRow };
}
