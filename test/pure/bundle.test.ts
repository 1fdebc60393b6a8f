import { execFile } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import * as vite from "vite";
import { beforeAll, describe, expect, test } from "vitest";
import { withPureConstants } from "../../scripts/bundle-plugins.mjs";
import { compactKernel, wgslModules } from "../../scripts/wgsl-modules.mjs";
import { build } from "esbuild";
import { ENTRIES, nodeFileOf, sourceOf, SUBPATHS } from "../../scripts/subpaths.mjs";
import { paramsOf } from "../../src/gpu/wgsl";
import type { Kernel } from "../../src/op/kernel";
import { CLASSES_OF, publishedFolder, readScript, withStaticImports } from "../support/published";

const CORE_LIMIT = 120_000;
const KERNELS = readdirSync("kernels", { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".wgsl"))
  .map((name) => [name, readFileSync(join("kernels", name), "utf8")] as const);

let folder: string;
beforeAll(() => {
  folder = publishedFolder();
});

/** Entries and all files of the package that they load, at once or later. */
function allFiles(entries: readonly string[] = ENTRIES.map((name) => `${name}.js`)): string[] {
  const files = new Set(entries.flatMap((name) => withStaticImports(folder, name)));
  // The set grows during the loop: files that load later may load others.
  for (const name of files) {
    const later = readScript(join(folder, name)).lazy.filter((path) => path.startsWith("./"));
    for (const file of later.flatMap((path) => withStaticImports(folder, path.slice(2)))) files.add(file);
  }
  return [...files];
}

const zippedBytes = (name: string): number => gzipSync(readFileSync(join(folder, name)), { level: 9 }).length;

describe("the published bundle for browsers", () => {
  test("its core is below 120 kB, minified and zipped", () => {
    const totalBytes = (files: readonly string[]): number => files.reduce((sum, name) => sum + zippedBytes(name), 0);
    const loadedByCore = withStaticImports(folder, "core.js");
    const loadedByEntries = ENTRIES.map((entry) => withStaticImports(folder, `${entry}.js`));
    const size = totalBytes(loadedByCore);
    const loadedLater = allFiles().filter((name) => !loadedByEntries.flat().includes(name));
    const parts = loadedLater.map(
      (name) => `${name.replace(/-[A-Z0-9]{8}\.js$/, "")} ${(zippedBytes(name) / 1000).toFixed(1)}`,
    );
    const kilobytes = (bytes: number): string => `${(bytes / 1000).toFixed(1)} kB`;
    const entries = ENTRIES.map((entry, i) => `${entry} ${kilobytes(totalBytes(loadedByEntries[i]!))}`);
    process.stdout.write(`${entries.join(", ")}; later ${parts.join(", ")}\n`);
    expect(size).toBeLessThan(CORE_LIMIT);
    expect(
      loadedLater.some((name) => name.startsWith("loaded-tokenizer")),
      "tokenizers load later",
    ).toBe(true);
  });

  test("imports its own files and no others", () => {
    const paths = allFiles().flatMap((name) => {
      const { imports, lazy } = readScript(join(folder, name));
      return [...imports, ...lazy];
    });
    expect(paths.length).toBeGreaterThan(5);
    expect(paths.filter((path) => !/^\.\/[\w.-]+\.js$/.test(path))).toEqual([]);
    expect(paths.filter((path) => !readdirSync(folder).includes(path.replace("./", "")))).toEqual([]);
  });

  test("evaluates no strings as code", () => {
    expect(allFiles().flatMap((name) => readScript(join(folder, name)).evaluates)).toEqual([]);
  });

  test("has the exports of the sources, and its errors keep their names", async () => {
    const load = async (file: string) =>
      // The compiler cannot know what a computed path exports.
      (await import(pathToFileURL(file).href)) as Record<string, unknown>;
    for (const entry of ENTRIES) {
      const source = await load(resolve(sourceOf(entry)));
      expect(Object.keys(await load(join(folder, `${entry}.js`))).sort(), entry).toEqual(Object.keys(source).sort());
    }
    const built = await load(join(folder, "engine.js"));
    // Some take more arguments, such as what was not finite.
    type Kind = new (fact: string, remedy: string, ...details: unknown[]) => Error;
    const isError = (value: unknown): value is Kind => typeof value === "function" && value.prototype instanceof Error;
    const kinds = Object.entries(built).filter((entry): entry is [string, Kind] => isError(entry[1]));
    expect(kinds.length).toBeGreaterThan(8);
    for (const [name, Kind] of kinds) expect(new Kind("fact", "remedy", {}, {}).name).toBe(name);
  });
});

describe("the studio", () => {
  const inStudio = (entry: string): string[] => withStaticImports(join(folder, "studio"), entry);

  test("paints after less than 300 kB of script, zipped: its worker loads beside it", () => {
    const size = inStudio("page.js").reduce((sum, name) => sum + zippedBytes(join("studio", name)), 0);
    const worker = inStudio("worker.js").reduce((sum, name) => sum + zippedBytes(join("studio", name)), 0);
    process.stdout.write(`studio: page ${(size / 1000).toFixed(1)} kB, worker ${(worker / 1000).toFixed(1)} kB\n`);
    expect(size).toBeLessThan(300_000);
  });

  test("has all files that its scripts load, and evaluates no strings as code", () => {
    const studio = join(folder, "studio");
    const scripts = readdirSync(studio).filter((name) => name.endsWith(".js"));
    const read = scripts.map((name) => readScript(join(studio, name)));
    const paths = read.flatMap(({ imports, lazy }) => [...imports, ...lazy]);
    expect(paths.filter((path) => !scripts.includes(path.replace(/^\.\//, "")))).toEqual([]);
    expect(read.flatMap(({ evaluates }) => evaluates)).toEqual([]);
    for (const name of [
      "index.html",
      "bench.html",
      "style.css",
      "icon.svg",
      "model/config.json",
      "model/model.safetensors",
      "data/reviews.tsv",
    ])
      expect(statSync(join(studio, name)).size, name).toBeGreaterThan(0);
  });
});

describe("a subpath", () => {
  /** What a bundler takes of a page's script, minified. */
  async function bundled(code: string): Promise<string> {
    const stdin = { contents: code, resolveDir: process.cwd() };
    const options = { bundle: true, minify: true, write: false, format: "esm", logLevel: "error" } as const;
    const { outputFiles } = await build({ stdin, ...options });
    return outputFiles[0]!.text;
  }

  test.each([
    ["metrics", "bleu", 3_000],
    ["data", "stratifiedSample", 20_000],
    ["ops", "relu", 40_000],
    ["engine", "createEngine", 60_000],
    ["engine", "tensorFunction", 120_000],
  ])("safetape/%s leaves out what is not used beside %s", async (subpath, name, limit) => {
    const code = await bundled(`import { ${name} } from "${folder}/${subpath}.js"; globalThis.used = ${name};`);
    expect(code.length, `bytes of ${name}`).toBeLessThan(limit);
    expect(code.length).toBeGreaterThan(100);
  });

  test("has what the package itself leaves out: that has at most 40 values", async () => {
    const entry = await import("../../src/node/index");
    expect(Object.keys(entry).length, Object.keys(entry).join(" ")).toBeLessThanOrEqual(40);
  });

  test("is in package.json for Node and browsers, ES modules and CommonJS, with types", () => {
    const files = (file: string, form: "js" | "cjs") => ({
      types: `./dist/${file}.d.${form === "js" ? "ts" : "cts"}`,
      default: `./dist/${file}.${form}`,
    });
    const pair = (file: string) => ({ import: files(file, "js"), require: files(file, "cjs") });
    const expected = ENTRIES.map((name): [string, unknown] => [
      name === "index" ? "." : `./${name}`,
      { node: pair(nodeFileOf(name)), ...pair(name) },
    ]);
    // This repository's own package.json.
    const manifest = JSON.parse(readFileSync("package.json", "utf8")) as Record<string, unknown>;
    expect(manifest["exports"]).toEqual({ ...Object.fromEntries(expected), "./package.json": "./package.json" });
    const types = SUBPATHS.map((name): [string, string[]] => [name, [`./dist/${name}.d.ts`]]);
    expect(manifest["typesVersions"]).toEqual({ "*": Object.fromEntries(types) });
  });
});

describe("CommonJS", () => {
  const NODE = ENTRIES.map(nodeFileOf);
  const ofCommonJs = (names: readonly string[]): string[] => names.map((name) => name.replace(/\.js$/, ".cjs")).sort();
  const ofNode = (): string[] => ofCommonJs(allFiles(NODE.map((name) => `${name}.js`)));

  /** Requires files in a process of Node where nothing of the package is loaded, and returns what the program prints. */
  async function inNode(program: string): Promise<unknown> {
    const { stdout } = await promisify(execFile)(process.execPath, ["-e", program], { cwd: folder });
    const printed: unknown = JSON.parse(stdout);
    return printed;
  }

  test("is split as the ES modules are: an entry loads its own files, and no other entry's", async () => {
    const files = [...NODE, ...ENTRIES].map((name) => `${name}.cjs`);
    // The program prints the names of the loaded files, by entry.
    const loaded = (await inNode(`
      const { basename, dirname } = require("node:path");
      const own = () => Object.keys(require.cache).filter((path) => dirname(path) === process.cwd());
      const entries = ${JSON.stringify(files)}.map((file) => {
        for (const path of own()) delete require.cache[path];
        require("./" + file);
        return [file, own().map((path) => basename(path)).sort()];
      });
      console.log(JSON.stringify(Object.fromEntries(entries)));
    `)) as Readonly<Record<string, readonly string[]>>;
    const kilobytes = (file: string): number =>
      loaded[file]!.reduce((sum, name) => sum + readFileSync(join(folder, name)).length, 0) / 1000;
    const sizes = files.map((file) => `${file} ${kilobytes(file).toFixed(0)} kB of ${loaded[file]!.length} files`);
    process.stdout.write(`${sizes.join(", ")}\n`);
    for (const name of NODE) {
      expect(loaded[`${name}.cjs`], name).toEqual(ofCommonJs(withStaticImports(folder, `${name}.js`)));
    }
    // Elsewhere an entry is what Node's has, or less.
    for (const name of ENTRIES) {
      const files = loaded[`${name}.cjs`]!.filter((file) => file !== `${name}.cjs`);
      expect(loaded[`${nodeFileOf(name)}.cjs`], name).toEqual(expect.arrayContaining(files));
    }
    expect(kilobytes("metrics.cjs")).toBeLessThan(kilobytes("engine.cjs") / 4);
    expect(kilobytes("engine.cjs")).toBeLessThan(kilobytes("core.cjs") / 2);
    for (const later of ["loaded-tokenizer", "continue", "save"]) {
      expect(
        ofNode().some((file) => file.startsWith(`${later}-`)),
        later,
      ).toBe(true);
      expect(Object.values(loaded).flat(), later).not.toContainEqual(expect.stringMatching(`^${later}-`));
    }
  });

  test("exports what the ES modules do, also to what loads a file later", async () => {
    const files = ofNode();
    expect(files.length).toBeGreaterThan(50);
    const copying = files.filter((file) =>
      readFileSync(join(folder, file), "utf8").includes("exports = __toCommonJS("),
    );
    expect(copying, "files of which each read of an export takes long").toEqual([]);
    const namesIn = async (paths: readonly string[]) =>
      // The program prints the names of each file's exports.
      (await inNode(`
        const namesOf = async (file) => Object.keys(await import("./" + file)).sort();
        Promise.all(${JSON.stringify(paths)}.map(namesOf)).then((all) => console.log(JSON.stringify(all)));
      `)) as string[][];
    // Node adds names of its own to those of a file in CommonJS, "default" among them: no file may export that.
    const ofNodeItself = ["__esModule", "default", "module.exports"];
    const found = (await namesIn(files)).map((names) => names.filter((name) => !ofNodeItself.includes(name)));
    expect(found).toEqual(await namesIn(files.map((file) => file.replace(/\.cjs$/, ".js"))));
  });

  test.each([
    ["Node", "node-"],
    ["a page", ""],
  ])("has the same classes in all entries for %s, and in what loads later", async (_where, prefix) => {
    // The program prints this object.
    const found = (await inNode(`${CLASSES_OF}
      const names = ${JSON.stringify(ENTRIES)};
      const entries = Object.fromEntries(names.map((name) => [name, require("./${prefix}" + name + ".cjs")]));
      const { faults, classes } = classesOf(entries);
      const { memoryDirectory, readImageFolder } = entries.data;
      readImageFolder([memoryDirectory("images", { "cut.png": Uint8Array.of(137) })], {}).catch((error) => {
        const isInstance = error instanceof entries.engine.DataError;
        console.log(JSON.stringify({ faults, classes: classes.size, isInstance }));
      });
    `)) as { faults: string[]; classes: number; isInstance: boolean };
    expect(found.faults).toEqual([]);
    expect(found.classes).toBeGreaterThan(15);
    expect(found.isInstance, "an error of a file that loads later").toBe(true);
  });

  /** What a bundler writes for a program that requires one name of the installed package: bytes of all files, and of the first. */
  async function bundled(bundler: "esbuild" | "Vite", subpath: string, name: string) {
    const project = mkdtempSync(join(tmpdir(), "safetape-require-"));
    try {
      mkdirSync(join(project, "node_modules"));
      symlinkSync(process.cwd(), join(project, "node_modules", "safetape"));
      const file = join(project, "program.cjs");
      const outDir = join(project, "out");
      writeFileSync(file, `const { ${name} } = require("safetape/${subpath}");\nglobalThis.used = ${name};\n`);
      if (bundler === "esbuild") {
        const options = { bundle: true, minify: true, splitting: true, format: "esm", logLevel: "error" } as const;
        await build({ ...options, entryPoints: [file], outdir: outDir });
      } else {
        const rolldownOptions = { input: file, output: { entryFileNames: "program.js" } };
        await vite.build({ root: project, configFile: false, logLevel: "error", build: { outDir, rolldownOptions } });
      }
      const sizes = readdirSync(outDir, { recursive: true, encoding: "utf8" })
        .filter((path) => path.endsWith(".js"))
        .map((path) => statSync(join(outDir, path)).size);
      return { all: sizes.reduce((sum, size) => sum + size), first: statSync(join(outDir, "program.js")).size };
    } finally {
      rmSync(project, { recursive: true, force: true });
    }
  }

  test.each([
    ["esbuild", "metrics", "accuracy", 150_000, 30_000],
    ["Vite", "metrics", "accuracy", 150_000, 30_000],
    ["esbuild", "engine", "createEngine", 350_000, 250_000],
    ["Vite", "engine", "createEngine", 350_000, 250_000],
  ] as const)("%s takes safetape/%s alone for %s", async (bundler, subpath, name, limit, firstLimit) => {
    const { all, first } = await bundled(bundler, subpath, name);
    process.stdout.write(`${bundler}: ${subpath} ${all} bytes, of which ${first} at once\n`);
    expect(all).toBeLessThan(limit);
    expect(first).toBeLessThan(firstLimit);
    expect(first).toBeGreaterThan(1000);
  });
});

describe("the bundler", () => {
  /** Tokens of WGSL; longer operators are matched first. */
  const tokens = (code: string): string[] =>
    code
      .replace(/\/\/.*$/gm, "")
      .match(/\w[\w.]*|&&|\|\||<<=|>>=|<<|>>|[-+*/%&|^=!<>]=|->|\+\+|--|\/\*|\S/g)
      ?.slice() ?? [];

  test.each(KERNELS)("keeps the lines and tokens of %s", (_name, code) => {
    expect(code, "compactKernel does not know block comments").not.toMatch(/\/\*/);
    const compact = compactKernel(code);
    expect(compact.split("\n").length).toBe(code.split("\n").length);
    expect(tokens(compact)).toEqual(tokens(code));
    expect(compact.length).toBeLessThan(code.length);
  });

  test("marks what computes constants as pure, and nothing else", () => {
    const source = "export const a: A = f([g()]), b = () => h(), c = [1];\nk();\nfunction n() { const d = m(); }";
    expect(withPureConstants(source)).toBe(source.replace("f([g()])", "/* @__PURE__ */ (() => (f([g()])))()"));
  });

  test("says of each kernel whose text loads later what its params are: plans count their bytes before", async () => {
    const names = KERNELS.map(([name]) => name).filter((name) => !name.startsWith("lib"));
    const outdir = mkdtempSync(join(tmpdir(), "safetape-kernels-"));
    try {
      const imports = names.map((name, i) => `import kernel${i} from ${JSON.stringify(resolve("kernels", name))};`);
      const contents = `${imports.join("\n")}\nexport default [${names.map((_, i) => `kernel${i}`).join(", ")}];`;
      const later = names.map((name) => name.replace(/\.wgsl$/, ""));
      await build({
        stdin: { contents, resolveDir: process.cwd() },
        bundle: true,
        splitting: true,
        format: "esm",
        logLevel: "error",
        outdir,
        outExtension: { ".js": ".mjs" },
        plugins: [wgslModules({ compact: true, later })],
      });
      // The file was made above.
      const { default: kernels } = (await import(pathToFileURL(join(outdir, "stdin.mjs")).href)) as {
        readonly default: readonly Kernel[];
      };
      const before = kernels.map(paramsOf);
      for (const kernel of kernels) await kernel.load!();
      expect(kernels.filter(({ load }) => load)).toEqual([]);
      expect(before).toEqual(kernels.map(paramsOf));
      expect(before.flat().length).toBeGreaterThan(kernels.length);
    } finally {
      rmSync(outdir, { recursive: true, force: true });
    }
  });
});
