import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { constantsOf } from "./entry";
import type { Entry } from "./entry";
import { readMachineCode } from "./machine-code";
import type { MachineCode } from "./machine-code";
import type { PeerShader } from "./peers";
import { runOnFamily } from "./toolchain";
import type { Family } from "./toolchain";

/** The families whose instructions Debian's LLVM 15 knows. Of others it prints some, and RADV counts. */
const DISASSEMBLED: readonly Family[] = ["RDNA2", "RDNA3"];

/** First argument of bench/isa.ts as the program that `runOnFamily` starts. */
export const COMPILE_ENTRIES = "--compile-entries";
export const COMPILE_PEERS = "--compile-peers";
/** In place of a filter: each entry with the constants alone that it has first. */
export const FIRST_CONSTANTS = "--first-constants";

/** What a family's compiler made of something. */
export interface Compiled<Of> {
  readonly family: Family;
  readonly of: Of;
  readonly code: MachineCode;
}

export interface CompiledAll<Of> {
  readonly compiled: readonly Compiled<Of>[];
  /** Names and versions of the driver on each family. */
  readonly drivers: readonly string[];
}

export interface CompileOptions {
  /** The bundled bench/isa.ts. */
  readonly program: string;
  readonly families: readonly Family[];
}

/**
 * Compiles entries for several families at the same time.
 * @param filter a kernel and words, as `entries` has them. Default: all entries.
 * @param folder where the machine code is kept, if it is.
 */
export function compileKernels(
  options: CompileOptions,
  filter: readonly string[] = [],
  folder?: string,
): Promise<CompiledAll<Entry>> {
  return compileAll<Entry>(options, [COMPILE_ENTRIES, ...filter], async (entry, family, text) => {
    if (folder === undefined) return;
    const name = [entry.kernel, entry.entry, constantsOf(entry).replaceAll(" ", "-"), family].join("-");
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, `${name}.txt`), text);
  });
}

export const compilePeerShaders = (options: CompileOptions): Promise<CompiledAll<PeerShader>> =>
  compileAll<PeerShader>(options, [COMPILE_PEERS]);

async function compileAll<Of>(
  { program, families }: CompileOptions,
  args: readonly string[],
  keep?: (of: Of, family: Family, text: string) => Promise<void>,
): Promise<CompiledAll<Of>> {
  const compiled: Compiled<Of>[] = [];
  const kept: Promise<void>[] = [];
  const drivers = await Promise.all(
    families.map((family) =>
      runOnFamily(family, program, args, (description, text) => {
        // The program prints what it compiles as JSON of this type.
        const of = JSON.parse(description) as Of;
        const code = readMachineCode(text);
        compiled.push({ family, of, code: DISASSEMBLED.includes(family) ? code : { ...code, blocks: [] } });
        if (keep) kept.push(keep(of, family, text));
      }),
    ),
  );
  await Promise.all(kept);
  return { compiled, drivers };
}
