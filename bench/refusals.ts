// Runs the test that refuses each allocation of loading, stepping, freezing and evaluating once, and writes their number.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { provenance } from "../scripts/provenance.mjs";

/** What the test writes into the file that SAFETAPE_REFUSALS names. */
interface RefusalCounts {
  readonly info: Parameters<typeof provenance>[0];
  readonly results: { readonly seed: number; readonly refusals: number; readonly of: Readonly<Record<string, number>> };
}

const folder = mkdtempSync(join(tmpdir(), "safetape-refusals-"));
const file = join(folder, "refusals.json");
const args = ["vitest", "run", "--project", "llvmpipe", "test/runs/out-of-memory.test.ts"];
const { status } = spawnSync("npx", args, { stdio: "inherit", env: { ...process.env, SAFETAPE_REFUSALS: file } });
if (status !== 0) process.exit(status ?? 1);
// Written by the test.
const { info, results } = JSON.parse(readFileSync(file, "utf8")) as RefusalCounts;
rmSync(folder, { recursive: true });
writeFileSync(
  join("bench", "results", "refusals-llvmpipe.json"),
  `${JSON.stringify({ ...provenance(info), results }, null, 1)}\n`,
);
console.table(results.of);
console.log(`${results.refusals} refusals, each answered by a typed error, and survived`);
