// @ts-check
// Trains one step from the packed package in every runtime, and prints the loss and the adapter of each.
//
//   npm run test:runtimes [-- NAME ...]     e.g. npm run test:runtimes -- node@20 bun
//
// Packs the build, and installs the package and the runtimes, which come as npm packages, in a temporary folder. Fails where a
// runtime's loss is not that of the others, or where its ledger is not empty at the end.
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { driverEnvironment, ensureVulkan } from "./ensure-vulkan.mjs";

const run = promisify(execFile);
const NPM = ["--no-audit", "--no-fund", "--loglevel=error", "--prefer-offline"];

/** npm package of each runtime, its program there, and the program's arguments before the script. */
const RUNTIMES = {
  "node@20": { program: "node/bin/node", args: [] },
  "node@22": { program: "node/bin/node", args: [] },
  "node@24": { program: "node/bin/node", args: [] },
  bun: { program: ".bin/bun", args: ["run"] },
  deno: { program: ".bin/deno", args: ["run", "--allow-all", "--unstable-webgpu", "--node-modules-dir=manual"] },
};

const STEP = `
import { createEngine, initialiseModel, lora, SafeTrainer } from "safetape";
import { Batches } from "safetape/data";

const engine = await createEngine();
const model = await initialiseModel(engine, {
  model_type: "bert", vocab_size: 30, hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2,
  intermediate_size: 32, max_position_embeddings: 16, num_labels: 2,
});
const samples = [0, 1].map((label) => ({ ids: Int32Array.of(1, 2 + label, 3), label }));
const data = new Batches(samples, { size: 2, shuffle: false });
const trainer = await SafeTrainer.create({ model, adapter: lora({ rank: 2 }), data, steps: 2, dropout: false });
const { losses } = await trainer.train();
trainer.dispose();
model.dispose();
const { Deno, Bun } = globalThis;
const runtime = Deno ? "Deno " + Deno.version.deno : Bun ? "Bun " + Bun.version : "Node " + process.versions.node;
const { description, vendor } = engine.info;
console.log("RESULT " + JSON.stringify({ runtime, adapter: description || vendor, losses, left: engine.ledger.liveBytes }));
engine.dispose();
process.exit(0);
`;

/** Decimals of the losses that must agree: Deno's WebGPU is another implementation, and may choose another driver. */
const DIGITS = 4;

/** @param {string} name @param {string} folder @param {string} tarball */
async function trainIn(name, folder, tarball) {
  const path = join(folder, name.replace("@", "-"));
  mkdirSync(path);
  writeFileSync(join(path, "package.json"), JSON.stringify({ name: "runtime", private: true, type: "module" }));
  writeFileSync(join(path, "step.mjs"), STEP);
  await run("npm", ["install", ...NPM, tarball, name, ...(name === "deno" ? [] : ["webgpu"])], { cwd: path });
  const { program, args } = RUNTIMES[/** @type {keyof typeof RUNTIMES} */ (name)];
  const { stdout } = await run(join(path, "node_modules", program), [...args, "step.mjs"], {
    cwd: path,
    env: { ...process.env, DENO_DIR: join(path, "deno-cache"), DENO_NO_UPDATE_CHECK: "1" },
    timeout: 120_000,
  });
  const text = /^RESULT (.*)$/m.exec(stdout)?.[1];
  if (text === undefined) throw new Error(`${name} printed no result:\n${stdout}`);
  return /** @type {{ runtime: string, adapter: string, losses: number[], left: number }} */ (JSON.parse(text));
}

const names = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(RUNTIMES);
const unknown = names.find((name) => !Object.hasOwn(RUNTIMES, name));
if (unknown) {
  console.error(`There is no runtime ${unknown}. The runtimes are ${Object.keys(RUNTIMES).join(", ")}.`);
  process.exit(1);
}
const [driver] = await ensureVulkan();
if (driver?.icd) Object.assign(process.env, driverEnvironment(driver));
const folder = mkdtempSync(join(tmpdir(), "safetape-runtimes-"));
const faults = [];
try {
  await run("npm", ["pack", "--ignore-scripts", "--loglevel=error", "--pack-destination", folder]);
  const tarball = join(folder, readdirSync(folder).find((file) => file.endsWith(".tgz")) ?? "");
  /** @type {number[] | undefined} */
  let expected;
  for (const name of names) {
    try {
      const { runtime, adapter, losses, left } = await trainIn(name, folder, tarball);
      expected ??= losses;
      const shown = losses.map((loss) => loss.toFixed(DIGITS + 1)).join(", ");
      console.log(`${runtime}: losses ${shown} on ${adapter}`);
      const isSame = losses.every((loss, i) => Math.abs(loss - (expected?.[i] ?? NaN)) < 10 ** -DIGITS);
      if (!isSame || left !== 0)
        faults.push(`${name}: ${left} bytes left, losses ${shown}, ${expected.join(", ")} before`);
    } catch (error) {
      faults.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
for (const fault of faults) console.error(fault);
process.exitCode = faults.length > 0 ? 1 : 0;
