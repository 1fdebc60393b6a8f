// @ts-check
// Plugins of esbuild that shrink the browser's bundle: the test data of ops are left out, and the core is one file.
import { readFile } from "node:fs/promises";
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
 * Puts everything that the core needs into one file. The bundler gives a file to every set of modules that the same entries
 * reach, and each module that loads later is an entry: some twenty small files, which compress 8 kB worse than one. What loads
 * later never loads without the core, so an import of the whole core is added to it, and all entries reach all of the core.
 * @type {Plugin}
 */
export const coreInOneFile = {
  name: "core-in-one-file",
  setup(build) {
    /** @type {Set<string>} */
    const later = new Set();
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
