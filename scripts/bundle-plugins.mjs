// @ts-check
// Plugins of esbuild. Those for browsers shrink the bundle: the test data of ops are left out, and the core is few files.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

/** @typedef {NonNullable<import("tsup").Options["esbuildPlugins"]>[number]} Plugin */

/** Properties of an op that only tests and benches read, and their replacements. */
const TEST_PROPERTIES = new Map([
  ["cases", "cases: []"],
  ["malformed", "malformed: []"],
  ["reference", 'reference() { throw new Error("This bundle has no references of ops; they are in the sources."); }'],
]);

/**
 * Removes from an op's source the properties that only tests read. The bundler then drops what only they used.
 * @param {string} source
 */
export function withoutTests(source) {
  const file = ts.createSourceFile("op.ts", source, ts.ScriptTarget.Latest, true);
  /** @type {ts.ObjectLiteralElementLike[]} */
  const properties = [];
  /** @param {ts.Node} node */
  const visit = (node) => {
    const isOp = ts.isCallExpression(node) && ts.isIdentifier(node.expression) && node.expression.text === "defineOp";
    const [literal] = isOp ? node.arguments : [];
    if (literal && ts.isObjectLiteralExpression(literal)) {
      properties.push(...literal.properties.filter(({ name }) => name && TEST_PROPERTIES.has(name.getText())));
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  return properties.reduceRight(
    (text, node) =>
      text.slice(0, node.getStart()) + TEST_PROPERTIES.get(node.name?.getText() ?? "") + text.slice(node.end),
    source,
  );
}

/** @type {Plugin} */
export const opsWithoutTests = {
  name: "ops-without-tests",
  setup(build) {
    build.onLoad({ filter: /[\\/]src[\\/]ops[\\/]\w+\.ts$/ }, async ({ path }) => ({
      contents: withoutTests(await readFile(path, "utf8")),
      loader: "ts",
    }));
  },
};

/**
 * Lets families that few runs need load later (src/model/further-families-later.ts).
 * @type {Plugin}
 */
export const familiesLater = {
  name: "families-later",
  setup(build) {
    build.onResolve({ filter: /\/further-families$/ }, ({ path, resolveDir, kind }) =>
      build.resolve(`${path}-later`, { resolveDir, kind }),
    );
  },
};

const CORE = fileURLToPath(new URL("../src/core.ts", import.meta.url));

/**
 * Puts what the core needs into few files. The bundler gives a file to every set of modules that the same entries reach, and
 * each module that loads later is an entry: some twenty small files, which compress 8 kB worse. What loads later hardly ever
 * loads without the core, so an import of the whole core is added to it. What is left are parts that other subpaths share.
 * @type {Plugin}
 */
export const coreInFewFiles = {
  name: "core-in-few-files",
  setup(build) {
    // What checks ops reads a little of most of the core, which must not be cut for that.
    const later = new Set([fileURLToPath(new URL("../src/entry/testing.ts", import.meta.url))]);
    const isResolving = Symbol("resolving");
    build.onResolve({ filter: /^\.{1,2}\// }, async ({ path, kind, resolveDir, importer, pluginData }) => {
      if (kind !== "dynamic-import" || pluginData === isResolving) return undefined;
      const resolved = await build.resolve(path, { kind, resolveDir, importer, pluginData: isResolving });
      later.add(resolved.path);
      return resolved;
    });
    build.onLoad({ filter: /[\\/]src[\\/].*\.ts$/ }, async ({ path }) => {
      if (!later.has(path)) return undefined;
      return { contents: `${await readFile(path, "utf8")}\nimport ${JSON.stringify(CORE)};\n`, loader: "ts" };
    });
  },
};

/**
 * Writes the entries of CommonJS, which cannot share chunks: a bundle has a namespace for each entry, and an entry is that
 * namespace. So a class is the same class whichever entry it came from.
 * @param {string} folder
 * @param {Readonly<Record<string, readonly [bundle: string, namespace: string]>>} entries by the names of their files
 * @returns {Plugin}
 */
export function commonJsEntries(folder, entries) {
  return {
    name: "common-js-entries",
    setup(build) {
      build.onEnd(async () => {
        await mkdir(folder, { recursive: true });
        for (const [name, [bundle, namespace]] of Object.entries(entries)) {
          await writeFile(join(folder, `${name}.cjs`), `module.exports = require("./${bundle}.cjs").${namespace};\n`);
        }
      });
    },
  };
}
