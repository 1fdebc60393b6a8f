import { execFile } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import * as vite from "vite";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { serve } from "../../scripts/serve.mjs";
import { ENTRIES, nodeSourceOf } from "../../scripts/subpaths.mjs";
import { CLASSES_OF, publishedFolder } from "../support/published";
import { startChromium } from "./support/chromium";
import { itLong } from "../support/long";

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
const NAMES = "{ createEngine, initialiseModel, lora, Trainer }";

/** Source of a function of all entries' exports: the names of each, and what is wrong with their classes. */
const SURFACE = `${CLASSES_OF}
async function surface(entries) {
  const { faults, classes } = classesOf(entries);
  const engine = await entries.engine.createEngine();
  if (!(engine instanceof entries.index.Engine)) faults.push("the engine of safetape/engine is not one of safetape's");
  engine.dispose();
  const names = Object.fromEntries(Object.entries(entries).map(([entry, values]) => [entry, Object.keys(values).sort()]));
  return JSON.stringify({ names, faults, classes: classes.size });
}
`;
const pathOf = (entry: string): string => (entry === "index" ? "safetape" : `safetape/${entry}`);
const IMPORTS = ENTRIES.map((entry) => `import * as ${entry} from "${pathOf(entry)}";`).join("\n");
const ENTRY_OBJECT = `{ ${ENTRIES.join(", ")} }`;

interface Surface {
  readonly names: Readonly<Record<string, readonly string[]>>;
  readonly faults: readonly string[];
  readonly classes: number;
}

/** Compares what the entries export in Node with their sources. */
async function expectSurfaceOfNode({ faults, classes, names }: Surface): Promise<void> {
  expect(faults).toEqual([]);
  expect(classes, "classes").toBeGreaterThan(15);
  for (const entry of ENTRIES) {
    // The compiler cannot know what a computed path has.
    const source = (await import(resolve(nodeSourceOf(entry)))) as object;
    expect(names[entry], entry).toEqual(Object.keys(source).sort());
  }
}

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

/** Runs a file that prints its surface. */
async function surfaceOf(path: string, file: string): Promise<Surface> {
  const { stdout } = await run(process.execPath, [file], { cwd: path });
  // The program prints the result of SURFACE.
  return JSON.parse(stdout) as Surface;
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
    for (const file of [
      "LICENSE",
      "THIRD-PARTY.md",
      "README.md",
      "dist/index.js",
      "dist/node-index.cjs",
      "dist/node-index.d.ts",
    ]) {
      expect(files).toContain(`package/${file}`);
    }
    expect(files.filter((file) => /^package\/(?:src|test|bench|examples|scripts)\//.test(file))).toEqual([]);
  });

  it("trains a step in an ES module, where all subpaths have the same classes", async () => {
    const text = `import ${NAMES} from "safetape";import { Batches } from "safetape/data";${STEP}console.log("loss", await step());`;
    const surface = `${IMPORTS}${SURFACE}console.log(await surface(${ENTRY_OBJECT}));`;
    const path = await project("esm", "module", { "step.js": text, "surface.js": surface });
    linkWebgpu(path);
    losses.set("esm", await runInNode(path, "step.js"));
    expect(losses.get("esm")).toBeGreaterThan(0);
    await expectSurfaceOfNode(await surfaceOf(path, "surface.js"));
  });

  it("trains a step in CommonJS, to the same loss, where all subpaths have the same classes", async () => {
    const text = `const ${NAMES} = require("safetape");const { Batches } = require("safetape/data");${STEP}step().then((loss) => console.log("loss", loss));`;
    const required = ENTRIES.map((entry) => `${entry}: require("${pathOf(entry)}")`).join(", ");
    const surface = `${SURFACE}surface({ ${required} }).then(console.log);`;
    const path = await project("cjs", "commonjs", { "step.js": text, "surface.js": surface });
    linkWebgpu(path);
    expect(await runInNode(path, "step.js")).toBe(losses.get("esm"));
    await expectSurfaceOfNode(await surfaceOf(path, "surface.js"));
  });

  itLong("trains a step in Chromium when Vite has built it, to the same loss but for rounding", async () => {
    const text = `import ${NAMES} from "safetape";import { Batches } from "safetape/data";${IMPORTS}${STEP}${SURFACE}
      globalThis.result = step().catch(String);
      globalThis.surface = globalThis.result.then(() => surface(${ENTRY_OBJECT}));`;
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
      // The page's script gives the result of SURFACE.
      const found = JSON.parse(await page.evaluate("globalThis.surface")) as Surface;
      expect(found.faults).toEqual([]);
    } finally {
      await chromium.close();
      await server.close();
    }
  });
});
