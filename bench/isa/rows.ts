import { misses } from "./bounds";
import type { Miss } from "./bounds";
import type { Entry, Use } from "./entry";
import { hottest, streamingBlocks } from "./machine-code";
import type { MachineCode } from "./machine-code";
import type { Family } from "./toolchain";

/** What a family's compiler made of an entry. */
export interface Compiled {
  readonly family: Family;
  readonly entry: Entry;
  readonly code: MachineCode;
}

/** An entry in one use on one family, with the figures of tables. */
export interface Row {
  readonly key: string;
  /** Kernel and entry point. */
  readonly entry: string;
  readonly family: Family;
  readonly constants: Entry["constants"];
  readonly use: Use;
  readonly figures: Figures;
  readonly misses: readonly Miss[];
}

export type Figures = ReturnType<typeof figuresOf>;

/** Families whose bounds count; of the others, statistics are reported. */
const BOUNDED: readonly Family[] = ["RDNA2", "RDNA3"];

/** Kernel, entry, kind of work, formats and layouts: what stays when a kernel gets other tiles. */
const keyOf = ({ kernel, entry }: Entry, { kind, traits }: Use): string =>
  [`${kernel}.${entry}`, ...(kind === "memory" ? [] : [kind]), ...traits].join(", ");

/** One row for each use of each entry. */
export function rowsOf(compiled: readonly Compiled[]): Row[] {
  return compiled.flatMap(({ family, entry, code }) => {
    const figures = figuresOf(code);
    return entry.uses.map((use) => ({
      key: keyOf(entry, use),
      entry: `${entry.kernel}.${entry.entry}`,
      family,
      constants: entry.constants,
      use,
      figures,
      misses: BOUNDED.includes(family) ? misses(code, use) : [],
    }));
  });
}

function figuresOf(code: MachineCode) {
  const { registers, spilled, scratchBytes, waves, ldsBytes, instructions, inverseThroughput } = code;
  const hot = hottest(code);
  const streaming = streamingBlocks(code);
  const byWidth = (widths: readonly number[]): Record<string, number> => {
    const counts: Record<string, number> = {};
    for (const width of widths) counts[width] = (counts[width] ?? 0) + 1;
    return counts;
  };
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
      fmaPerValu: Number((hot.fma / hot.valu).toFixed(3)),
      ldsBytesPerFma: Number((hot.ldsBytes / hot.fma).toFixed(2)),
      scratch: hot.scratch,
    },
    /** Number of accesses by bytes, in the loops that have any or else in all of the code. */
    reads: byWidth(streaming.flatMap(({ reads }) => reads)),
    writes: byWidth(streaming.flatMap(({ writes }) => writes)),
  };
}
