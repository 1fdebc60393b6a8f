import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { compileEntries } from "./isa/compile";
import type { Entry } from "./isa/entry";
import { readMachineCode } from "./isa/machine-code";
import { rowsOf } from "./isa/rows";
import type { Compiled, Row } from "./isa/rows";
import { missingTool, runOnFamily } from "./isa/toolchain";
import type { Family } from "./isa/toolchain";

/** Where machine code is kept, if it is. */
const codeFolder = process.env["SAFETAPE_ISA_CODE"];

async function compileAll(families: readonly Family[], filter: readonly string[]): Promise<Compiled[]> {
  const compiled: Compiled[] = [];
  const [, program = ""] = process.argv;
  if (codeFolder !== undefined) await mkdir(codeFolder, { recursive: true });
  await Promise.all(
    families.map((family) =>
      runOnFamily(family, program, ["--compile", ...filter], (description, text) => {
        // Printed by `compileEntries`.
        const entry = JSON.parse(description) as Entry;
        compiled.push({ family, entry, code: readMachineCode(text) });
        if (codeFolder !== undefined) void writeFile(join(codeFolder, `${fileName(entry)}-${family}.txt`), text);
      }),
    ),
  );
  return compiled;
}

const constantsOf = ({ constants }: Pick<Entry, "constants">): string =>
  Object.entries(constants)
    .map((pair) => pair.join("="))
    .join(" ");

const fileName = (entry: Entry): string =>
  [entry.kernel, entry.entry, constantsOf(entry).replaceAll(" ", "-")].filter((part) => part !== "").join("-");

/** Prints a line for each entry and family, with the bounds that any of its uses misses. */
function printRows(rows: readonly Row[]): void {
  const groups = new Map<string, Row[]>();
  for (const row of rows) {
    const name = `${row.entry} ${constantsOf(row)}  ${row.family}`;
    groups.set(name, [...(groups.get(name) ?? []), row]);
  }
  for (const [name, uses] of [...groups].sort(([a], [b]) => a.localeCompare(b))) {
    const [{ figures }] = uses as [Row, ...Row[]]; // no group is empty
    const { registers, spilled, scratchBytes, waves, ldsBytes, instructions, hot, reads, writes } = figures;
    const of = uses.map(({ use }) => [use.kind, ...use.traits, `(${use.origin})`].join(" "));
    const parts = [
      `${registers} registers, ${spilled} spilled, ${scratchBytes} B scratch, ${waves} waves, ${ldsBytes} B LDS, ${instructions} instructions`,
      hot && `hot: ${hot.fma} fma / ${hot.valu} valu = ${hot.fmaPerValu}, ${hot.ldsBytesPerFma} B LDS per fma`,
      `bytes read: ${widths(reads)}; written: ${widths(writes)}`,
      `for ${[...new Set(of)].join("; ")}`,
    ];
    console.log(`${name}\n  ${parts.filter((part) => part !== undefined).join("\n  ")}`);
    const missed = uses.flatMap(({ misses }) =>
      misses.map(({ bound, value, limit }) => `  MISSED ${bound}: ${Number(value.toFixed(3))}, bound ${limit}`),
    );
    for (const line of new Set(missed)) console.log(line);
  }
}

/** Number of accesses by bytes, such as "4 of 16". */
const widths = (counts: Readonly<Record<string, number>>): string =>
  Object.entries(counts)
    .map(([width, count]) => `${count} of ${width}`)
    .join(", ") || "none";

const missing = missingTool();
const [first, ...rest] = process.argv.slice(2);
if (first === "--compile") {
  const [kernel, ...words] = rest;
  await compileEntries(kernel === undefined ? undefined : { kernel, words });
} else if (missing !== undefined) {
  console.error(`Kernels cannot be compiled for AMD's GPUs here: ${missing}.`);
  process.exitCode = 1;
} else {
  printRows(rowsOf(await compileAll(["RDNA2", "RDNA3"], process.argv.slice(2))));
}
