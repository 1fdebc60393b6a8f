// Trains some steps from the packed package in every runtime, as ES modules and as CommonJS, and prints the loss and the adapter of
// each.
//
//   npm run test:runtimes [-- NAME ...]     e.g. npm run test:runtimes -- node@20 bun
//
// Packs the build, and installs the package and the runtimes, which come as npm packages, in a temporary folder; Chromium is this
// machine's. Fails where a runtime's losses do not fall or are not those of the others, or where its ledger
// is not empty at the end.
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { startChromium } from "../test/browser/support/chromium";
import { serve } from "./serve.mjs";

const run = promisify(execFile);
const NPM = ["--no-audit", "--no-fund", "--loglevel=error", "--prefer-offline"];
const TWO_MINUTES = 120_000;

const STEP = `
import { createEngine, initialiseModel, lora, SafeTrainer } from "safetape";
import { Batches } from "safetape/data";

async function step() {
  const engine = await createEngine();
  const model = await initialiseModel(engine, {
    model_type: "bert", vocab_size: 30, hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2,
    intermediate_size: 32, max_position_embeddings: 16, num_labels: 2,
  });
  const samples = [0, 1].map((label) => ({ ids: Int32Array.of(1 + label, 3, 4), label }));
  const data = new Batches(samples, { size: 2, shuffle: false });
  // At this rate the losses soon differ from that of a guess.
  const optimizer = { learningRate: 0.02 };
  const adapter = lora({ rank: 2 });
  const trainer = await SafeTrainer.create({ model, adapter, data, steps: 5, optimizer, dropout: false });
  const { losses } = await trainer.train();
  trainer.dispose();
  model.dispose();
  const { description, architecture, vendor } = engine.info;
  const left = engine.ledger.liveBytes;
  engine.dispose();
  return { adapter: description || architecture || vendor, losses, left };
}
`;
const PRINT = `
const { Deno, Bun } = globalThis;
const runtime = Deno ? "Deno " + Deno.version.deno : Bun ? "Bun " + Bun.version : "Node " + process.versions.node;
step().then((trained) => console.log("RESULT " + JSON.stringify({ runtime, ...trained })));
`;
const PROGRAM = `${STEP}${PRINT}`;
const PROGRAMS = {
  "step.mjs": PROGRAM,
  "step.cjs": PROGRAM.replace(/^import (.*) from (".*");$/gm, "const $1 = require($2);"),
};

interface Trained {
  readonly runtime: string;
  readonly adapter: string;
  readonly losses: readonly number[];
  /** Bytes that are live after everything was disposed of. */
  readonly left: number;
}

/** What trains in a project that has the package and `packages` installed. */
interface Runtime {
  readonly packages: readonly string[];
  readonly train: (project: string) => Promise<Trained>;
}

/** @param program in node_modules. @param args those before the script. */
const program = (name: string, program: string, args: readonly string[] = []): Runtime => ({
  packages: name === "deno" ? [name] : [name, "webgpu"],
  async train(project) {
    const results: Trained[] = [];
    for (const [file, code] of Object.entries(PROGRAMS)) {
      writeFileSync(join(project, file), code);
      const { stdout } = await run(join(project, "node_modules", program), [...args, file], {
        cwd: project,
        env: { ...process.env, DENO_DIR: join(project, "deno-cache"), DENO_NO_UPDATE_CHECK: "1" },
        timeout: TWO_MINUTES,
      });
      const text = /^RESULT (.*)$/m.exec(stdout)?.[1];
      if (text === undefined) throw new Error(`${file} printed no result:\n${stdout}`);
      // The script prints this object.
      results.push(JSON.parse(text) as Trained);
    }
    const [modules, commonJs] = results.map(({ losses }) => losses.join(", "));
    if (modules !== commonJs) throw new Error(`the losses are ${modules} in ES modules and ${commonJs} in CommonJS`);
    return results[0]!;
  },
});

/** A page without a bundler, under a strict policy. */
const chromium: Runtime = {
  packages: [],
  async train(project) {
    const code = STEP.replace('"safetape"', '"/dist/index.js"').replace(/"safetape\/(\w+)"/, '"/dist/$1.js"');
    writeFileSync(join(project, "step.js"), `${code}globalThis.result = step().catch(String);`);
    writeFileSync(join(project, "index.html"), '<!doctype html><script type="module" src="/page/step.js"></script>');
    const server = await serve({ "/dist/": join(project, "node_modules/safetape/dist"), "/page/": project });
    const started = await startChromium();
    try {
      const page = await started.browser.newPage();
      await page.goto(`${server.url}/page/`);
      await page.waitForFunction("globalThis.result !== undefined");
      // The page's script gives this object, or the text of an error.
      const result = await page.evaluate<Omit<Trained, "runtime"> | string>("globalThis.result");
      if (typeof result === "string") throw new Error(result);
      return { runtime: `Chromium ${started.browser.version()}`, ...result };
    } finally {
      await started.close();
      await server.close();
    }
  },
};

const RUNTIMES: Readonly<Record<string, Runtime>> = {
  "node@20": program("node@20", "node/bin/node"),
  "node@22": program("node@22", "node/bin/node"),
  "node@24": program("node@24", "node/bin/node"),
  bun: program("bun", ".bin/bun", ["run"]),
  deno: program("deno", ".bin/deno", ["run", "--allow-all", "--node-modules-dir=manual"]),
  chromium,
};

/** Decimals of the losses that must agree: Deno's WebGPU is another implementation, and may choose another driver. */
const DIGITS = 4;

/** Trains in a runtime, in a project of its own. */
async function trainIn(name: string, { packages, train }: Runtime, folder: string, tarball: string): Promise<Trained> {
  const project = join(folder, name.replace("@", "-"));
  mkdirSync(project);
  writeFileSync(join(project, "package.json"), JSON.stringify({ name: "runtime", private: true, type: "module" }));
  await run("npm", ["install", ...NPM, tarball, ...packages], { cwd: project });
  return train(project);
}

const names = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(RUNTIMES);
const unknown = names.find((name) => !Object.hasOwn(RUNTIMES, name));
if (unknown) {
  console.error(`There is no runtime ${unknown}.\nThe runtimes are ${Object.keys(RUNTIMES).join(", ")}.`);
  process.exit(1);
}
const folder = mkdtempSync(join(tmpdir(), "safetape-runtimes-"));
const faults: string[] = [];
try {
  await run("npm", ["pack", "--ignore-scripts", "--loglevel=error", "--pack-destination", folder]);
  const tarball = join(folder, readdirSync(folder).find((file) => file.endsWith(".tgz")) ?? "");
  let expected: readonly number[] | undefined;
  for (const name of names) {
    try {
      const { runtime, adapter, losses, left } = await trainIn(name, RUNTIMES[name]!, folder, tarball);
      const first = (expected ??= losses);
      const shown = losses.map((loss) => loss.toFixed(DIGITS + 1)).join(", ");
      console.log(`${runtime}: losses ${shown} on ${adapter}`);
      if (!(losses.at(-1)! < losses[0]!)) faults.push(`${name}: losses do not fall: ${shown}`);
      const isSame = losses.every((loss, i) => Math.abs(loss - (first[i] ?? NaN)) < 10 ** -DIGITS);
      if (!isSame) faults.push(`${name}: losses ${shown}, and ${first.join(", ")} before`);
      if (left !== 0) faults.push(`${name}: ${left} bytes are left in the ledger`);
    } catch (error) {
      faults.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
for (const fault of faults) console.error(fault);
process.exitCode = faults.length > 0 ? 1 : 0;
