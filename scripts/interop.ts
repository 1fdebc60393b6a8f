// Computes the logits of adapters that Python wrote:  npm run interop -- DIR --out OUT
import { readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { parseArgs } from "node:util";
import { createEngine, openDirectory } from "../src/node/index";
import { writeSafetensors } from "../src/io/safetensors-write";
import { interopCases, runInterop } from "./interop-case";

const USAGE = "Usage: npm run interop -- DIR --out OUT   (DIR/FAMILY/base and DIR/FAMILY/KIND as Python wrote them)";

/**
 * Largest relative error of an adapter's logits. PEFT decomposes weights in f32 where an adapter begins with them: a singular value within a
 * hundredth of the next one moves what is left of the weight by 2e-5 of its norm.
 */
function limitOf(folder: string): number {
  const text = readFileSync(`${folder}/adapter_config.json`, "utf8");
  return /"init_lora_weights":\s*"(?:pissa|olora)/.test(text) ? 1e-4 : 2e-5;
}

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
  let [worst, failures] = [0, 0];
  for (const { family, kind } of cases) {
    const { logits, error } = await runInterop(engine, directory, family, kind);
    const folder = `${values.out}/${family}/${kind}`;
    await mkdir(folder, { recursive: true });
    await writeSafetensors(await openDirectory(folder), "actual.safetensors", [{ name: "logits", ...logits }]);
    const limit = limitOf(`${directory}/${family}/${kind}`);
    const isWrong = error !== undefined && !(error <= limit);
    const shown = error === undefined ? "" : error.toExponential(1);
    process.stdout.write(`${`${family}/${kind}`.padEnd(18)} ${shown}${isWrong ? ` exceeds ${limit}` : ""}\n`);
    worst = Math.max(worst, error ?? 0);
    if (isWrong) failures++;
  }
  process.stdout.write(`worst relative error ${worst.toExponential(1)} of ${cases.length} adapters\n`);
  return failures === 0 ? 0 : 1;
}

process.exitCode = await main();
