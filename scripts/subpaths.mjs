// @ts-check
// The subpaths of the package. A subpath is src/entry/NAME.ts (the core is src/core.ts), in Node src/node/entry/NAME.ts, and a
// part of `exports` and `typesVersions` in package.json.

export const SUBPATHS = [
  "core",
  "engine",
  "ops",
  "data",
  "metrics",
  "models",
  "gguf",
  "preference",
  "distributed",
  "analysis",
  "testing",
];

/** The package itself, as a namespace, and all subpaths. */
export const ENTRIES = ["index", ...SUBPATHS];

/**
 * The source of an entry.
 * @param {string} name
 */
export const sourceOf = (name) => (["index", "core"].includes(name) ? `src/${name}.ts` : `src/entry/${name}.ts`);

/**
 * The source of an entry in Node, which may have more: what opens files or a GPU.
 * @param {string} name
 */
export const nodeSourceOf = (name) => (name === "index" ? "src/node/index.ts" : `src/node/entry/${name}.ts`);

/**
 * The file of an entry in Node, without its extension.
 * @param {string} name
 */
export const nodeFileOf = (name) => `node-${name}`;

/**
 * A file of the build with all entries in Node, for scripts that load a checkout by its path. The package itself exports the entries.
 */
export const EVERYTHING = { file: "node", source: "src/node/everything.ts" };
