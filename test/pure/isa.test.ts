import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { compileKernels } from "../../bench/isa/compile-all";
import { differences, missedBy, readMissed } from "../../bench/isa/missed";
import { BOUNDED, rowsOf } from "../../bench/isa/rows";
import { missingTool } from "../../bench/isa/toolchain";
import { bundleProgram } from "../../scripts/bundle-program.mjs";

const missing = missingTool();
const reason = missing === undefined ? "" : ` (skipped: ${missing})`;

describe.skipIf(missing !== undefined)(`machine code for AMD's GPUs${reason}`, { timeout: 600_000 }, async () => {
  const { compiled } =
    missing === undefined
      ? await compileKernels({ program: await bundleProgram("bench/isa.ts"), families: BOUNDED })
      : { compiled: [] };

  it("is made of every entry of every kernel", () => {
    const entryPoints = readdirSync("kernels", { encoding: "utf8" })
      .filter((file) => file.endsWith(".wgsl"))
      .flatMap((file) => {
        const code = readFileSync(`kernels/${file}`, "utf8");
        return [...code.matchAll(/@compute[^{]*?\bfn (\w+)/g)].map(([, entry]) => file.replace("wgsl", entry!));
      });
    const compiledEntries = new Set(compiled.map(({ of: { kernel, entry } }) => `${kernel}.${entry}`));
    expect(entryPoints.filter((name) => !compiledEntries.has(name))).toEqual([]);
  });

  it("misses the bounds of bench/isa/missed.json and no others; npm run bench:isa -- --accept writes that list", async () => {
    expect(differences(missedBy(rowsOf(compiled)), await readMissed())).toEqual([]);
  });
});
