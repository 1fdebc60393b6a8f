import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";
import { beforeAll, describe, expect, test } from "vitest";
import { withPureConstants } from "../../scripts/bundle-plugins.mjs";
import { compactKernel } from "../../scripts/wgsl-modules.mjs";
import { build } from "esbuild";
import { ENTRIES, nodeFileOf, sourceOf, SUBPATHS } from "../../scripts/subpaths.mjs";
import { publishedFolder, readScript, withStaticImports } from "../support/published";

const CORE_LIMIT = 120_000;
const KERNELS = readdirSync("kernels", { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".wgsl"))
  .map((name) => [name, readFileSync(join("kernels", name), "utf8")] as const);

let folder: string;
beforeAll(() => {
  folder = publishedFolder();
});

/** The entries and all files that they load, at once or later. */
function allFiles(): string[] {
  const files = new Set(ENTRIES.flatMap((name) => withStaticImports(folder, `${name}.js`)));
  // The set grows during the loop: files that load later may load others.
  for (const name of files) {
    const later = readScript(join(folder, name)).lazy.map((path) => path.replace("./", ""));
    for (const file of later.flatMap((first) => withStaticImports(folder, first))) files.add(file);
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
});
