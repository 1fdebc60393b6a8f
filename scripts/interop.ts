// Computes the logits of adapters that Python wrote:  npm run interop -- DIR --out OUT
import { mkdir } from "node:fs/promises";
import { parseArgs } from "node:util";
import { createEngine, openDirectory } from "../src/node/index";
import { writeSafetensors } from "../src/io/safetensors-write";
import { interopCases, runInterop } from "./interop-case";

const USAGE = "Usage: npm run interop -- DIR --out OUT   (DIR/FAMILY/base and DIR/FAMILY/KIND as Python wrote them)";

/** Writes the logits of every adapter below a directory to files that Python can compare. Returns the exit status. */
async function main(): Promise<number> {
  const { values, positionals } = parseArgs({ options: { out: { type: "string" } }, allowPositionals: true });
  const [directory] = positionals;
  if (directory === undefined || values.out === undefined || positionals.length > 1) {
    process.stderr.write(`${USAGE}\n`);
    return 2;
  }
  const cases = interopCases(directory);
  if (cases.length === 0) {
    process.stderr.write(`${directory} has no FAMILY/KIND/adapter_config.json with a FAMILY/base.\n${USAGE}\n`);
    return 1;
  }
  using engine = await createEngine();
  let worst = 0;
  for (const { family, kind } of cases) {
    const { logits, error } = await runInterop(engine, directory, family, kind);
    const folder = `${values.out}/${family}/${kind}`;
    await mkdir(folder, { recursive: true });
    await writeSafetensors(await openDirectory(folder), "actual.safetensors", [{ name: "logits", ...logits }]);
    process.stdout.write(`${`${family}/${kind}`.padEnd(18)} ${error === undefined ? "" : error.toExponential(1)}\n`);
    worst = Math.max(worst, error ?? 0);
  }
  process.stdout.write(`worst relative error ${worst.toExponential(1)} of ${cases.length} adapters\n`);
  return worst <= 2e-5 ? 0 : 1;
}

process.exitCode = await main();
