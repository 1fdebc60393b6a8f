// @ts-check
// Plugins of esbuild. Those for browsers shrink the bundle: what nothing uses can be left out, and the core is few files.
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
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
  ["index", "entry/analysis", "entry/data", "entry/distributed", "entry/gguf", "entry/models", "entry/preference"].map(
    (name) => fileURLToPath(new URL(`../src/${name}.ts`, import.meta.url)),
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
 * Leaves Node's crypto out of pages, for which js-sha256 (of NATS' object store) has its own code and never asks for it.
 * @type {Plugin}
 */
export const withoutCrypto = {
  name: "without-crypto",
  setup(build) {
    build.onResolve({ filter: /^(?:node:)?crypto$/ }, ({ path }) => ({ path, namespace: "empty" }));
    build.onLoad({ filter: /.*/, namespace: "empty" }, () => ({ contents: "" }));
  },
};

/** Marks exports as those of an ES module. esbuild copies them for that, after which each read of one takes 30 ns instead of 0.5. */
const MARKED = '$1__defProp($2, "__esModule", { value: true });';

/**
 * Adds the form in CommonJS of entries and of all files that they load, at once or later: FILE.cjs of FILE.js. esbuild splits only
 * ES modules, so that each file is converted by itself. Who requires an entry loads what that needs, and a class is the same class
 * whichever entry it came from. An `import()` remains one: of the package's files, so that bundlers can load them later, too, and of
 * other packages, some of which are ES modules.
 * @param {{ entries: readonly string[], only: readonly string[] }} names of entries; those in `only` are not written as ES modules
 * @returns {Plugin}
 */
export function commonJs({ entries, only }) {
  return {
    name: "common-js",
    setup(build) {
      build.onEnd(async (result) => {
        const { outputFiles = [], metafile } = result;
        const files = new Map(outputFiles.map((file) => [basename(file.path), file]));
        const importsOf = new Map(
          Object.entries(metafile?.outputs ?? {}).map(([path, { imports }]) => [basename(path), imports]),
        );
        const names = new Set(entries.map((name) => `${name}.js`));
        // The set grows during the loop: files may load others.
        for (const name of names) {
          for (const { path, external } of importsOf.get(name) ?? []) if (!external) names.add(basename(path));
        }
        const converted = await build.esbuild.build({
          entryPoints: [...names],
          outdir: build.initialOptions.outdir ?? "dist",
          outExtension: { ".js": ".cjs" },
          bundle: true,
          write: false,
          format: "cjs",
          // Files say what they export in such a way that Node's import() finds it.
          platform: "node",
          supported: { "dynamic-import": true },
          plugins: [
            {
              name: "file-by-file",
              setup({ onResolve, onLoad }) {
                onResolve({ filter: /.*/ }, ({ path, kind }) =>
                  kind === "entry-point"
                    ? { path, namespace: "es" }
                    : { path: path.replace(/^(\.\/.+)\.js$/, "$1.cjs"), external: true },
                );
                onLoad({ filter: /.*/, namespace: "es" }, ({ path }) => {
                  const file = files.get(path);
                  return file && { contents: file.contents };
                });
              },
            },
          ],
        });
        for (const file of converted.outputFiles ?? []) {
          const text = file.text.replace(/^(module\.exports = )__toCommonJS\((\w+)\);$/m, MARKED);
          files.set(basename(file.path), { ...file, text, contents: Buffer.from(text) });
        }
        for (const name of only) for (const end of [".js", ".js.map"]) files.delete(`${name}${end}`);
        result.outputFiles = [...files.values()];
      });
    },
  };
}
