// @ts-check
// What the browser's bundle leaves out of the sources: what means nothing in kernels, and what only tests read of ops.
import { readFile } from "node:fs/promises";
import ts from "typescript";

/** @typedef {NonNullable<import("tsup").Options["esbuildPlugins"]>[number]} Plugin */

/** Properties of an op that its tests and benches read, and nothing else; and what stands in their place. */
const FOR_TESTS = new Map([
  ["cases", "cases: []"],
  ["malformed", "malformed: []"],
  ["reference", 'reference() { throw new Error("The references of ops are in the sources, not in this bundle."); }'],
]);

/** Declarations whose spelling the engine itself reads. */
const DECLARATION = /^(?:@group|struct|const|enable|diagnostic)\b/;

/**
 * A kernel without comments and spaces that mean nothing, every line in its place: errors of the compiler name lines of
 * the file. WGSL has no strings, so `//` always opens a comment; kernels have no block comments (a test looks).
 * @param {string} code
 */
export function compactKernel(code) {
  const lines = code.split("\n").map((line) => line.replace(/\/\/.*$/, "").trim());
  const tight = (/** @type {string} */ line) => line.replace(/ ?([-+*/=<>(){},;:&|!?%^]) ?/g, "$1");
  return lines.map((line) => (DECLARATION.test(line) ? line : tight(line))).join("\n");
}

/**
 * An op's source without what only tests read. What nothing else used is then dropped as unused.
 * @param {string} source
 */
export function withoutTests(source) {
  const file = ts.createSourceFile("op.ts", source, ts.ScriptTarget.Latest, true);
  /** @type {ts.ObjectLiteralElementLike[]} */
  const found = [];
  /** @param {ts.Node} node */
  const visit = (node) => {
    const isOp = ts.isCallExpression(node) && ts.isIdentifier(node.expression) && node.expression.text === "defineOp";
    const [literal] = isOp ? node.arguments : [];
    if (literal && ts.isObjectLiteralExpression(literal)) {
      found.push(...literal.properties.filter(({ name }) => name && FOR_TESTS.has(name.getText())));
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  return found.reduceRight(
    (text, node) => text.slice(0, node.getStart()) + FOR_TESTS.get(node.name?.getText() ?? "") + text.slice(node.end),
    source,
  );
}

/** @type {Plugin} */
export const compactKernels = {
  name: "compact-kernels",
  setup(build) {
    build.onLoad({ filter: /\.wgsl$/ }, async ({ path }) => ({
      contents: compactKernel(await readFile(path, "utf8")),
      loader: "text",
    }));
  },
};

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
