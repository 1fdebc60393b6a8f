// @ts-check
// Plugins of esbuild. Those for browsers shrink the bundle: what nothing uses can be left out, and the core is few files.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

/** @typedef {NonNullable<import("tsup").Options["esbuildPlugins"]>[number]} Plugin */

/**
 * Marks what computes a module's constants (`defineOp`, schemas, spreads) as pure, so that bundlers leave out constants that
 * nothing uses. Importing has no side effect here, so that all of it is pure; bundlers cannot know. Where esbuild minifies, it
 * uses the marks for its own files and leaves them out of what it writes.
 * @param {string} source
 */
export function withPureConstants(source) {
  const file = ts.createSourceFile("module.ts", source, ts.ScriptTarget.Latest, true);
  /** @type {(node: ts.Node) => boolean} */
  const computes = (node) =>
    COMPUTING.has(node.kind) || (!ts.isFunctionLike(node) && ts.forEachChild(node, computes) === true);
  const constants = file.statements
    .filter((statement) => ts.isVariableStatement(statement))
    .flatMap(({ declarationList }) => declarationList.declarations)
    .flatMap(({ initializer }) => (initializer && computes(initializer) ? [initializer] : []));
  return constants.reduceRight(
    (text, node) =>
      `${text.slice(0, node.getStart())}/* @__PURE__ */ (() => (${node.getText()}))()${text.slice(node.end)}`,
    source,
  );
}

/** Expressions that may run code of others, as far as bundlers know. */
const COMPUTING = new Set([
  ts.SyntaxKind.CallExpression,
  ts.SyntaxKind.NewExpression,
  ts.SyntaxKind.SpreadElement,
  ts.SyntaxKind.SpreadAssignment,
  ts.SyntaxKind.TemplateExpression,
  ts.SyntaxKind.PropertyAccessExpression,
  ts.SyntaxKind.ElementAccessExpression,
]);

/** @type {Plugin} */
export const pureConstants = {
  name: "pure-constants",
  setup(build) {
    build.onLoad({ filter: /[\\/]src[\\/].*\.ts$/ }, async ({ path }) => ({
      contents: withPureConstants(await readFile(path, "utf8")),
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
const ENGINE = fileURLToPath(new URL("../src/entry/engine.ts", import.meta.url));
/** Entries that hardly ever load without the core. */
const WITH_CORE = new Set(
  ["index", "entry/analysis", "entry/data", "entry/gguf", "entry/models", "entry/preference"].map((name) =>
    fileURLToPath(new URL(`../src/${name}.ts`, import.meta.url)),
  ),
);

/** What the engine loads later, often without the rest of the core. */
const OF_ENGINE = /[\\/]src[\\/](?:gpu|run)[\\/]/;

/**
 * Puts what the core needs into few files. The bundler gives a file to every set of modules that the same entries reach, and
 * each module that loads later is an entry: some twenty small files, which compress 8 kB worse. What loads later, and most
 * subpaths, hardly ever load without the core, so an import of the whole core is added to them, or of the engine. What is left are parts that the
 * engine, ops and metrics share with it.
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
      if (!later.has(path) && !WITH_CORE.has(path)) return undefined;
      const contents = withPureConstants(await readFile(path, "utf8"));
      const whole = OF_ENGINE.test(path) ? ENGINE : CORE;
      return { contents: `${contents}\nimport ${JSON.stringify(whole)};\n`, loader: "ts" };
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
