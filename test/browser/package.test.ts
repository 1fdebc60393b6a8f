import { execFile } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import * as vite from "vite";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { serve } from "../../scripts/serve.mjs";
import { publishedFolder } from "../support/published";
import { startChromium } from "./support/chromium";

const run = promisify(execFile);
const NPM = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"];

/** Source of a function that trains a tiny model for one step and returns the loss. All projects use it. */
const STEP = `
async function step() {
  const engine = await createEngine();
  const model = await initialiseModel(engine, {
    model_type: "bert", vocab_size: 30, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2,
    intermediate_size: 32, max_position_embeddings: 16, num_labels: 2,
  });
  const samples = [0, 1].map((label) => ({ ids: Int32Array.of(1, 2 + label, 3), label }));
  const data = new Batches(samples, { size: 2, shuffle: false });
  const trainer = await Trainer.create({ model, adapter: lora({ rank: 2 }), data, steps: 1, dropout: false });
  const { losses } = await trainer.train();
  trainer.dispose();
  engine.dispose();
  return losses[0];
}
`;
const NAMES = "{ Batches, createEngine, initialiseModel, lora, Trainer }";

let folder: string;
let tarball: string;
const losses = new Map<string, number>();

beforeAll(async () => {
  publishedFolder();
  folder = mkdtempSync(join(tmpdir(), "safetape-package-"));
  // --ignore-scripts packs the existing build instead of building again.
  await run("npm", ["pack", "--ignore-scripts", "--loglevel=error", "--pack-destination", folder]);
  tarball = join(folder, readdirSync(folder).find((name) => name.endsWith(".tgz")) ?? "");
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Makes a project with the package installed by npm or, without a network, unpacked with links to this repository's packages. */
async function project(name: string, type: "module" | "commonjs", files: Record<string, string>): Promise<string> {
  const path = join(folder, name);
  mkdirSync(path);
  writeFileSync(join(path, "package.json"), JSON.stringify({ name, version: "1.0.0", private: true, type }));
  for (const [file, text] of Object.entries(files)) writeFileSync(join(path, file), text);
  try {
    await run("npm", ["install", "--prefer-offline", "--fetch-retries=0", ...NPM, tarball], { cwd: path });
  } catch (error) {
    process.stdout.write(`npm could not install (${String(error).split("\n")[1] ?? ""}): the package is unpacked\n`);
    await unpack(path);
  }
  return path;
}

async function unpack(path: string): Promise<void> {
  const modules = join(path, "node_modules");
  rmSync(modules, { recursive: true, force: true });
  mkdirSync(join(modules, "@huggingface"), { recursive: true });
  await run("tar", ["-xzf", tarball, "-C", modules]);
  cpSync(join(modules, "package"), join(modules, "safetape"), { recursive: true });
  // This repository's own package.json.
  const { dependencies } = JSON.parse(readFileSync("package.json", "utf8")) as { dependencies: object };
  for (const name of Object.keys(dependencies)) symlinkSync(resolve("node_modules", name), join(modules, name));
}

/** Links this repository's copy of the optional peer `webgpu`, since installing it would take 130 MB. */
function linkWebgpu(path: string): void {
  symlinkSync(resolve("node_modules", "webgpu"), join(path, "node_modules", "webgpu"));
}

/** Runs a file that prints the loss. */
async function runInNode(path: string, file: string): Promise<number> {
  const { stdout } = await run(process.execPath, [file], { cwd: path });
  return Number(/loss (\S+)/.exec(stdout)?.[1]);
}

describe("the packed package, installed", () => {
  it("contains the build, its licence and those of its dependencies, but no sources or tests", async () => {
    const { stdout } = await run("tar", ["-tzf", tarball]);
    const files = stdout.trim().split("\n");
    for (const file of ["LICENSE", "THIRD-PARTY.md", "README.md", "dist/index.js", "dist/node.cjs", "dist/node.d.ts"]) {
      expect(files).toContain(`package/${file}`);
    }
    expect(files.filter((file) => /^package\/(?:src|test|bench|examples|scripts)\//.test(file))).toEqual([]);
  });

  it("trains a step in an ES module", async () => {
    const text = `import ${NAMES} from "safetape";${STEP}console.log("loss", await step());`;
    const path = await project("esm", "module", { "step.js": text });
    linkWebgpu(path);
    losses.set("esm", await runInNode(path, "step.js"));
    expect(losses.get("esm")).toBeGreaterThan(0);
  });

  it("trains a step in CommonJS, to the same loss", async () => {
    const text = `const ${NAMES} = require("safetape");${STEP}step().then((loss) => console.log("loss", loss));`;
    const path = await project("cjs", "commonjs", { "step.js": text });
    linkWebgpu(path);
    expect(await runInNode(path, "step.js")).toBe(losses.get("esm"));
  });

  it("trains a step in Chromium when Vite has built it, to the same loss but for rounding", async () => {
    const text = `import ${NAMES} from "safetape";${STEP}globalThis.result = step().catch(String);`;
    const html = '<!doctype html><title>step</title><script type="module" src="/step.js"></script>';
    const path = await project("vite", "module", { "step.js": text, "index.html": html });
    await vite.build({ root: path, logLevel: "error" });
    const server = await serve({ "/": join(path, "dist") });
    const chromium = await startChromium();
    try {
      const page = await chromium.browser.newPage();
      await page.goto(`${server.url}/`);
      await page.waitForFunction("globalThis.result !== undefined");
      const loss = await page.evaluate("globalThis.result");
      expect(loss).toBeCloseTo(losses.get("esm") ?? NaN, 5);
    } finally {
      await chromium.close();
      await server.close();
    }
  });
});
