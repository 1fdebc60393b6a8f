import type { Kernel } from "./kernel";
import type { Limits } from "./limits";
import { LimitError } from "../base/errors";

/** A part of a slot's bytes, for a tensor that is larger than one binding. */
export interface SlotRange {
  readonly slot: string;
  /** First byte; a multiple of `Limits.offsetAlignment`. */
  readonly offset: number;
  readonly bytes: number;
}

/**
 * One dispatch, as data: the kernel and its entry point, what each WGSL variable is bound to, the fields of `Params`,
 * and the number of workgroups. Nothing here touches a device.
 */
export interface Launch {
  readonly kernel: Kernel;
  readonly entry: string;
  /** WGSL variable -> slot of the op, or a range of one. */
  readonly bindings: Readonly<Record<string, string | SlotRange>>;
  /** Field of the kernel's `Params` struct -> value, for every field. */
  readonly params: Readonly<Record<string, number>>;
  /** Values of the kernel's top-level constants, which must be known when the module is compiled. */
  readonly constants?: Readonly<Record<string, number>>;
  /** Total number. It becomes a two-dimensional grid if it exceeds the adapter's limit for one dimension. */
  readonly workgroups: number;
  /** Other ways to run this launch. */
  readonly variants?: readonly Variant[];
  /** Neighbours that this launch can do the work of, the best choice first. */
  readonly absorbs?: readonly Absorption[];
  /** Decides which launches a tuner treats as equal: it times only one of them. */
  readonly shape?: LaunchShape;
}

/** A launch whose work another one does, where it comes right before or after that one. */
export interface AbsorbedLaunch {
  /** Name of its kernel, and its entry. */
  readonly kernel: string;
  readonly entry: string;
  /** Whether it must belong to the same node; default false. */
  readonly isOfSameNode?: boolean;
  /** Variable -> variable of the entry that does its work. Where another launch binds that one, both must bind the same bytes. */
  readonly variables: Readonly<Record<string, string>>;
  /** The uniform variable that gets its params; none if they are not needed. */
  readonly params?: string;
}

/** How a launch does the work of its neighbours, by another entry and with its own params and bindings. */
export interface Absorption {
  /** The launches just before it, and just after it, in their order. Default none. */
  readonly before?: readonly AbsorbedLaunch[];
  readonly after?: readonly AbsorbedLaunch[];
  /** The entry that does all. */
  readonly by: string;
  /** The ways to run it, of which one must be chosen. Default the launch's own kernel and variants. */
  readonly variants?: readonly Variant[];
}

/** What decides, for a given entry, which variant is fastest. */
export interface LaunchShape {
  /** Sizes, which a tuner rounds to powers of two. */
  readonly sizes: Readonly<Record<string, number>>;
  /** Formats and layouts, which a tuner compares exactly. */
  readonly traits: readonly string[];
}

/** An optional feature of WebGPU that a kernel may need. */
export type KernelFeature = "shader-f16";

/** Another way to run a launch, with the same entry, bindings and params. It gives the same bits unless it `rounds`. */
export interface Variant {
  readonly name: string;
  readonly kernel: Kernel;
  readonly constants: Readonly<Record<string, number>>;
  readonly workgroups: number;
  /** Subgroup size that the adapter must have, the same in all kernels; any if undefined. */
  readonly subgroup?: number;
  /** Optional features that the adapter must have; none if undefined. */
  readonly needs?: readonly KernelFeature[];
  /** Whether GPUs run it by default: the first variant of a launch that says so and that the adapter can run. */
  readonly gpu?: boolean;
  /** Floating-point operations. A launch with few is not worth compiling another pipeline. */
  readonly flops: number;
  /** Whether it sums in another order, so that results may differ in their last bits. */
  readonly rounds?: boolean;
  /** Whether it multiplies and sums in f16, so that three digits are right. It runs only where the user asks for it. */
  readonly half?: boolean;
}

/** A contiguous range of rows of a tensor. */
export interface RowRange {
  readonly start: number;
  readonly count: number;
}

const greatestCommonDivisor = (a: number, b: number): number => (b === 0 ? a : greatestCommonDivisor(b, a % b));

/**
 * Cuts `count` rows into ranges that can be bound. `bytesPerRow` has an entry for each tensor that is cut this way: in
 * all of them, every range fits one binding and starts at an aligned byte.
 *
 * @throws LimitError if not even the smallest aligned number of rows fits one binding.
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
      `The fewest rows that a binding can start after, ${step} of ${widest} bytes, cannot be bound: ` +
        `this adapter binds at most ${limits.bindingBytes} bytes at once.`,
      "Use an adapter with a larger maxStorageBufferBindingSize, or a narrower tensor.",
    );
  }
  const ranges: RowRange[] = [];
  for (let start = 0; start < count; start += size) ranges.push({ start, count: Math.min(size, count - start) });
  return ranges;
}

/** The bytes of `slot` that hold the rows `range`. */
export function bindRows(slot: string, range: RowRange, bytesPerRow: number): SlotRange {
  return { slot, offset: range.start * bytesPerRow, bytes: range.count * bytesPerRow };
}
