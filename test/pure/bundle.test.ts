import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";
import { beforeAll, describe, expect, test } from "vitest";
import { compactKernel, withoutTests } from "../../scripts/bundle-plugins.mjs";
import * as core from "../../src/core";
import * as library from "../../src/index";
import { publishedFolder, readScript, withStaticImports } from "../support/published";

const CORE_LIMIT = 120_000;
const KERNELS = readdirSync("kernels").map((name) => [name, readFileSync(join("kernels", name), "utf8")] as const);

let folder: string;
beforeAll(() => {
  folder = publishedFolder();
});

/** index.js, and all that it may load, now or later. */
function allFiles(): string[] {
  const found = new Set(withStaticImports(folder, "index.js"));
  // A set that grows while it is walked: files that load later may load others.
  for (const name of found) {
    const later = readScript(join(folder, name)).lazy.map((path) => path.replace("./", ""));
    for (const file of later.flatMap((first) => withStaticImports(folder, first))) found.add(file);
  }
  return [...found];
}

const zipped = (name: string): number => gzipSync(readFileSync(join(folder, name)), { level: 9 }).length;

describe("the published bundle for browsers", () => {
  test("its core is below 120 kB, minified and zipped", () => {
    const sizeOf = (files: readonly string[]): number => files.reduce((sum, name) => sum + zipped(name), 0);
    const loaded = withStaticImports(folder, "core.js");
    const whole = withStaticImports(folder, "index.js");
    const size = sizeOf(loaded);
    const later = allFiles().filter((name) => !whole.includes(name));
    const parts = later.map((name) => `${name.replace(/-[A-Z0-9]{8}\.js$/, "")} ${(zipped(name) / 1000).toFixed(1)}`);
    const kilobytes = (bytes: number): string => `${(bytes / 1000).toFixed(1)} kB`;
    process.stdout.write(
      `core ${kilobytes(size)}, with readers and analyses ${kilobytes(sizeOf(whole))}; later ${parts.join(", ")}\n`,
    );
    expect(size).toBeLessThan(CORE_LIMIT);
    expect(
      later.some((name) => name.startsWith("tokenizer")),
      "tokenizers load later",
    ).toBe(true);
  });

  test("is whole: it imports its own files and nothing else", () => {
    const paths = allFiles().flatMap((name) => {
      const { imports, lazy } = readScript(join(folder, name));
      return [...imports, ...lazy];
    });
    expect(paths.length).toBeGreaterThan(5);
    expect(paths.filter((path) => !/^\.\/[\w.-]+\.js$/.test(path))).toEqual([]);
    expect(paths.filter((path) => !readdirSync(folder).includes(path.replace("./", "")))).toEqual([]);
  });

  test("makes no code from strings", () => {
    expect(allFiles().flatMap((name) => readScript(join(folder, name)).evaluates)).toEqual([]);
  });

  test("exports what the sources do, and its errors keep their names", async () => {
    const load = async (file: string) =>
      (await import(pathToFileURL(join(folder, file)).href)) as Record<string, unknown>;
    const built = await load("index.js");
    expect(Object.keys(built).sort()).toEqual(Object.keys(library).sort());
    expect(Object.keys(await load("core.js")).sort()).toEqual(Object.keys(core).sort());
    // Some are told more: what was asked for, what was not finite.
    type Kind = new (fact: string, remedy: string, ...told: unknown[]) => Error;
    const isError = (value: unknown): value is Kind => typeof value === "function" && value.prototype instanceof Error;
    const kinds = Object.entries(built).filter((entry): entry is [string, Kind] => isError(entry[1]));
    expect(kinds.length).toBeGreaterThan(8);
    for (const [name, Kind] of kinds) expect(new Kind("fact", "remedy", {}, {}).name).toBe(name);
  });
});

describe("what the bundle leaves out", () => {
  /** WGSL's tokens, the longest first. */
  const tokens = (code: string): string[] =>
    code
      .replace(/\/\/.*$/gm, "")
      .match(/\w[\w.]*|&&|\|\||<<=|>>=|<<|>>|[-+*/%&|^=!<>]=|->|\+\+|--|\/\*|\S/g)
      ?.slice() ?? [];

  test.each(KERNELS)("%s keeps its lines and tokens", (_name, code) => {
    expect(code, "block comments are not known to compactKernel").not.toMatch(/\/\*/);
    const compact = compactKernel(code);
    expect(compact.split("\n").length).toBe(code.split("\n").length);
    expect(tokens(compact)).toEqual(tokens(code));
    expect(compact.length).toBeLessThan(code.length);
  });

  test("an op loses its cases and reference, and nothing else", () => {
    const source =
      'const k = 1;\nexport const op = defineOp<A>({ name: "x", reference(a) { return a; }, cases: [k],\n malformed: [f(k)] });';
    expect(withoutTests(source)).toMatch(
      /^const k = 1;\nexport const op = defineOp<A>\(\{ name: "x", reference\(\) \{ throw .* \}, cases: \[\],\n malformed: \[\] \}\);$/,
    );
  });
});
