import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";
import { beforeAll, describe, expect, test } from "vitest";
import { withoutTests } from "../../scripts/bundle-plugins.mjs";
import { compactKernel } from "../../scripts/wgsl-modules.mjs";
import * as core from "../../src/core";
import * as library from "../../src/index";
import { publishedFolder, readScript, withStaticImports } from "../support/published";

const CORE_LIMIT = 120_000;
const KERNELS = readdirSync("kernels", { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".wgsl"))
  .map((name) => [name, readFileSync(join("kernels", name), "utf8")] as const);

let folder: string;
beforeAll(() => {
  folder = publishedFolder();
});

/** index.js and all files that it loads, at once or later. */
function allFiles(): string[] {
  const files = new Set(withStaticImports(folder, "index.js"));
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
    const loadedByIndex = withStaticImports(folder, "index.js");
    const size = totalBytes(loadedByCore);
    const loadedLater = allFiles().filter((name) => !loadedByIndex.includes(name));
    const parts = loadedLater.map(
      (name) => `${name.replace(/-[A-Z0-9]{8}\.js$/, "")} ${(zippedBytes(name) / 1000).toFixed(1)}`,
    );
    const kilobytes = (bytes: number): string => `${(bytes / 1000).toFixed(1)} kB`;
    process.stdout.write(
      `core ${kilobytes(size)}, with readers and analyses ${kilobytes(totalBytes(loadedByIndex))}; later ${parts.join(", ")}\n`,
    );
    expect(size).toBeLessThan(CORE_LIMIT);
    expect(
      loadedLater.some((name) => name.startsWith("tokenizer")),
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
      // The compiler cannot know what a built file exports.
      (await import(pathToFileURL(join(folder, file)).href)) as Record<string, unknown>;
    const built = await load("index.js");
    expect(Object.keys(built).sort()).toEqual(Object.keys(library).sort());
    expect(Object.keys(await load("core.js")).sort()).toEqual(Object.keys(core).sort());
    // Some take more arguments, such as what was not finite.
    type Kind = new (fact: string, remedy: string, ...details: unknown[]) => Error;
    const isError = (value: unknown): value is Kind => typeof value === "function" && value.prototype instanceof Error;
    const kinds = Object.entries(built).filter((entry): entry is [string, Kind] => isError(entry[1]));
    expect(kinds.length).toBeGreaterThan(8);
    for (const [name, Kind] of kinds) expect(new Kind("fact", "remedy", {}, {}).name).toBe(name);
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

  test("removes the cases and the reference of an op, and nothing else", () => {
    const source =
      'const k = 1;\nexport const op = defineOp<A>({ name: "x", reference(a) { return a; }, cases: [k],\n malformed: [f(k)] });';
    expect(withoutTests(source)).toMatch(
      /^const k = 1;\nexport const op = defineOp<A>\(\{ name: "x", reference\(\) \{ throw .* \}, cases: \[\],\n malformed: \[\] \}\);$/,
    );
  });
});
