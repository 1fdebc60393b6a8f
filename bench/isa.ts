import { compileKernels, compilePeerShaders, COMPILE_ENTRIES, COMPILE_PEERS, FIRST_CONSTANTS } from "./isa/compile-all";
import { compileEntries } from "./isa/compile";
import { constantsOf } from "./isa/entry";
import { differences, missedBy, readMissed, writeMissed } from "./isa/missed";
import { writeIsa } from "./isa/results";
import { BOUNDED, formatWidths, rowsOf } from "./isa/rows";
import type { Row } from "./isa/rows";
import { FAMILIES, missingTool } from "./isa/toolchain";
import type { Family } from "./isa/toolchain";

const USAGE = `npm run bench:isa                          all kernels and peers' shaders; writes bench/results/isa.{json,md,svg}
npm run bench:isa -- --accept              writes the bounds that are missed now to bench/isa/missed.json
npm run bench:isa -- KERNEL [WORD ...]     the entries of one kernel, also those that are not chosen; words select by entry,
                                           kind of work, format, layout or constant (product_tiled plain f32 b^T GROUP_X=16)
SAFETAPE_ISA_CODE=FOLDER keeps the machine code.`;

const [, program = "", first, ...rest] = process.argv;

/** What this program does when started as `runOnFamily` starts it, or by a person. */
async function main(): Promise<void> {
  if (first === COMPILE_ENTRIES) {
    const [kernel, ...words] = rest;
    if (kernel === FIRST_CONSTANTS) return compileEntries("first constants");
    return compileEntries(kernel === undefined ? undefined : { kernel, words });
  }
  // What peers need loads only where they run.
  if (first === COMPILE_PEERS) return (await import("./isa/peers")).compilePeers();
  const missing = missingTool();
  if (missing !== undefined) throw new Error(`Kernels cannot be compiled for AMD's GPUs here: ${missing}.`);
  if (first === undefined) return all();
  if (first === "--accept") return accept();
  if (!first.startsWith("-")) return printKernel([first, ...rest]);
  console.log(USAGE);
}

async function accept(): Promise<void> {
  const { compiled } = await compileKernels({ program, families: BOUNDED });
  const missed = missedBy(rowsOf(compiled));
  for (const line of differences(missed, await readMissed())) console.log(line);
  await writeMissed(missed);
}

async function all(): Promise<void> {
  const families = Object.keys(FAMILIES) as Family[]; // the keys of an object of this type
  const kernels = await compileKernels({ program, families });
  const peers = await compilePeerShaders({ program, families: BOUNDED });
  await writeIsa(kernels, peers);
  const missed = Object.keys(missedBy(rowsOf(kernels.compiled)));
  console.log(`bench/results/isa.md: ${missed.length} rows miss bounds on ${kernels.drivers.join(", ")}`);
}

/** Prints a line for each entry and family, with the bounds that any of its uses misses. */
async function printKernel(filter: readonly string[]): Promise<void> {
  const { compiled } = await compileKernels({ program, families: BOUNDED }, filter, process.env["SAFETAPE_ISA_CODE"]);
  if (compiled.length === 0)
    console.log(`No plan and no case of an op has an entry of "${filter.join(" ")}".\n${USAGE}`);
  const groups = new Map<string, Row[]>();
  for (const row of rowsOf(compiled)) {
    const name = `${row.entry.kernel}.${row.entry.entry} ${constantsOf(row.entry)} on ${row.family}`;
    groups.set(name, [...(groups.get(name) ?? []), row]);
  }
  for (const [name, rows] of [...groups].sort(([a], [b]) => a.localeCompare(b))) {
    const { registers, spilled, scratchBytes, waves, ldsBytes, instructions, hot, reads, writes } = rows[0]!.figures;
    const uses = rows.map(({ use }) => [use.kind, ...use.traits, `(${use.origin}: ${use.of})`].join(" "));
    const missed = rows.flatMap(({ misses }) =>
      misses.map(({ bound, value, limit }) => `MISSED ${bound}: ${Number(value.toFixed(3))}, bound ${limit}`),
    );
    const lines = [
      `${registers} registers, ${spilled} spilled, ${scratchBytes} B scratch, ${waves} waves, ${ldsBytes} B LDS, ${instructions} instructions`,
      ...(hot
        ? [`hot: ${hot.fma} fma / ${hot.valu} valu = ${hot.fmaPerValu}, ${hot.ldsBytesPerFma} B LDS per fma`]
        : []),
      `bytes read: ${formatWidths(reads)}; written: ${formatWidths(writes)}`,
      `for ${[...new Set(uses)].join("; ")}`,
      ...new Set(missed),
    ];
    console.log([name, ...lines].join("\n  "));
  }
}

await main();
