// @ts-check
// Makes modules of kernels: an import of a .wgsl file gives an object with its name, its text and the parts that it imports
// (src/op/kernel.ts), for the bundler and for the test runner.
import { readFile } from "node:fs/promises";
import { basename, dirname, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** @typedef {NonNullable<import("tsup").Options["esbuildPlugins"]>[number]} Plugin */

const KERNELS = fileURLToPath(new URL("../kernels/", import.meta.url));
const IMPORT = /^#import (\S+)$/gm;

/** Declarations that the engine parses, and whose spelling is kept for that reason. */
const DECLARATION = /^(?:@group|struct|const|enable|diagnostic|#import)\b/;

/**
 * The name of a kernel's file: its path under `kernels/`, or the file's name where it is elsewhere.
 * @param {string} path
 */
function nameOf(path) {
  const inside = relative(KERNELS, path).replaceAll("\\", "/");
  return (inside.startsWith("..") ? basename(path) : inside).replace(/\.wgsl$/, "");
}

/**
 * The JavaScript module of a kernel.
 * @param {string} path
 * @param {string} code
 */
export function wgslModule(path, code) {
  const names = [...new Set([...code.matchAll(IMPORT)].map(([, name = ""]) => name))];
  const specifiers = names.map((name) => {
    const file = relative(dirname(path), resolve(KERNELS, `${name}.wgsl`)).replaceAll("\\", "/");
    return file.startsWith(".") ? file : `./${file}`;
  });
  return [
    ...specifiers.map((specifier, i) => `import part${i} from ${JSON.stringify(specifier)};`),
    `export default { name: ${JSON.stringify(nameOf(path))}, code: ${JSON.stringify(code)}, imports: [${names.map((_, i) => `part${i}`).join(", ")}] };`,
  ].join("\n");
}

/**
 * Removes comments and insignificant spaces from a kernel but keeps its lines, so that the compiler's errors name lines of the
 * file. WGSL has no strings, so `//` always starts a comment. Kernels have no block comments, as a test checks.
 * @param {string} code
 */
export function compactKernel(code) {
  const lines = code.split("\n").map((line) => line.replace(/\/\/.*$/, "").trim());
  const withoutSpaces = (/** @type {string} */ line) => line.replace(/ ?([-+*/=<>(){},;:&|!?%^]) ?/g, "$1");
  return lines.map((line) => (DECLARATION.test(line) ? line : withoutSpaces(line))).join("\n");
}

/** Suffix of the import by which a kernel whose text loads later finds it. */
const TEXT = "?text";

/**
 * The module of a kernel whose text is a file of its own. What it declares of `params` comes at once: plans count their bytes.
 * @param {string} path
 * @param {string} text the kernel's and that of its parts
 */
function laterModule(path, text) {
  const [, type = ""] = /var<uniform> params: (\w+);/.exec(text) ?? [];
  const fields = new RegExp(`struct ${type} \\{([^}]*)\\}`).exec(text)?.[1] ?? "";
  const declared = `struct P {${fields.replace(/\s/g, "")}}var<uniform> params: P;`;
  return [
    `const kernel = { name: ${JSON.stringify(nameOf(path))}, code: ${JSON.stringify(declared)}, imports: [], load: async () => {`,
    `  const { default: text } = await import(${JSON.stringify(`./${basename(path)}${TEXT}`)});`,
    "  Object.assign(kernel, text, { load: undefined });",
    "} };",
    "export default kernel;",
  ].join("\n");
}

/**
 * A plugin of esbuild.
 * @param {{ compact?: boolean, later?: readonly string[] }} [options] `later`: kernels whose texts are files of their own, with
 * the parts that they import.
 * @returns {Plugin}
 */
export function wgslModules({ compact = false, later = [] } = {}) {
  const read = async (/** @type {string} */ path) => {
    const code = await readFile(path, "utf8");
    return compact ? compactKernel(code) : code;
  };
  /**
   * A kernel as an expression, parts included.
   * @param {string} path
   * @returns {Promise<string>}
   */
  const whole = async (path) => {
    const code = await read(path);
    const names = [...new Set([...code.matchAll(IMPORT)].map(([, name = ""]) => name))];
    const parts = await Promise.all(names.map((name) => whole(resolve(KERNELS, `${name}.wgsl`))));
    return `{ name: ${JSON.stringify(nameOf(path))}, code: ${JSON.stringify(code)}, imports: [${parts.join(", ")}] }`;
  };
  /**
   * The lines of a kernel, without comments, and of its parts.
   * @param {string} path
   * @returns {Promise<string>}
   */
  const textOf = async (path) => {
    const code = compactKernel(await readFile(path, "utf8"));
    const parts = [...code.matchAll(IMPORT)].map(([, name = ""]) => textOf(resolve(KERNELS, `${name}.wgsl`)));
    return [code, ...(await Promise.all(parts))].join("\n");
  };
  return {
    name: "wgsl-modules",
    setup(build) {
      build.onLoad({ filter: /\.wgsl$/ }, async ({ path, suffix }) => {
        if (suffix === TEXT) return { contents: `export default ${await whole(path)};`, loader: "js" };
        if (later.includes(nameOf(path)))
          return { contents: laterModule(path, await textOf(path)), loader: "js", resolveDir: dirname(path) };
        return { contents: wgslModule(path, await read(path)), loader: "js" };
      });
    },
  };
}
