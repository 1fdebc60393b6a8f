import { fmaShare, hotBlocks, ldsPerFma, misses } from "./bounds";
import type { Miss } from "./bounds";
import type { Compiled } from "./compile-all";
import type { Entry, Use } from "./entry";
import { hottest, streamingBlocks } from "./machine-code";
import type { MachineCode } from "./machine-code";
import type { Family } from "./toolchain";

/** An entry in one use on one family. */
export interface Row {
  /** Kernel, entry, kind of work, and format or head size: what stays when a kernel gets other tiles. */
  readonly key: string;
  readonly entry: Entry;
  readonly use: Use;
  readonly family: Family;
  readonly figures: Figures;
  readonly misses: readonly Miss[];
}

/** The figures of tables. */
export type Figures = ReturnType<typeof figuresOf>;

/** Families whose bounds count. Of RDNA4, Debian's disassembler knows nothing, so that it has statistics alone. */
export const BOUNDED: readonly Family[] = ["RDNA2", "RDNA3"];

/** One row for each use of each entry. */
export function rowsOf(compiled: readonly Compiled<Entry>[]): Row[] {
  return compiled.flatMap(({ family, of: entry, code }) => {
    return entry.uses.map((use) => {
      const { kind, traits } = use;
      const key = [`${entry.kernel}.${entry.entry}`, ...(isNamed(kind) ? [kind] : []), ...traits.slice(0, 1)].join(
        ", ",
      );
      const missed = BOUNDED.includes(family) ? misses(code, use) : [];
      return { key, entry, use, family, figures: figuresOf(code, use), misses: missed };
    });
  });
}

/** Whether the kernel's name does not say what kind of work it is. */
const isNamed = (kind: Use["kind"]): boolean => kind === "narrow product" || kind === "small";

export function figuresOf(code: MachineCode, use: Pick<Use, "kind">) {
  const { registers, spilled, scratchBytes, waves, ldsBytes, instructions, inverseThroughput } = code;
  const hot = hottest(code);
  const blocks = hotBlocks(code, use);
  const streaming = streamingBlocks(code);
  return {
    registers,
    spilled,
    scratchBytes,
    waves,
    ldsBytes,
    instructions,
    inverseThroughput,
    hot: hot && {
      fma: hot.fma,
      valu: hot.valu,
      fmaPerValu: Number(fmaShare(blocks).toFixed(3)),
      ldsBytesPerFma: Number(ldsPerFma(blocks).toFixed(2)),
      scratch: hot.scratch,
    },
    /** Number of accesses of global memory by bytes, in the loops that have any, or else in all of the code. */
    reads: byWidth(streaming.flatMap(({ reads }) => reads)),
    writes: byWidth(streaming.flatMap(({ writes }) => writes)),
  };
}

function byWidth(widths: readonly number[]): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const width of widths) counts[width] = (counts[width] ?? 0) + 1;
  return counts;
}

/** Number of accesses by bytes, such as "4 of 16". */
export const formatWidths = (counts: Figures["reads"]): string =>
  Object.entries(counts)
    .map(([width, count]) => `${count} of ${width}`)
    .join(", ") || "none";
