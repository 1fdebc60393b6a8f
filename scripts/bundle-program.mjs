// @ts-check
// Bundles a TypeScript program of this repository like the library.
import { existsSync, readdirSync, renameSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { programName } from "./program-name.mjs";
import { wgslModules } from "./wgsl-modules.mjs";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const CACHE = join(ROOT, "node_modules", ".cache", "safetape");

/** Folders with everything that a program may import, apart from packages. */
const SOURCES = ["src", "kernels", "bench", "scripts", "test"];

/** Time of the last change to any source. */
function lastChange() {
  const files = SOURCES.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
      // What tests write into test/.cache comes and goes.
      .filter((name) => /\.(?:ts|mjs|wgsl)$/.test(name) && !name.startsWith(".cache"))
      .map((name) => join(ROOT, folder, name)),
  );
  return Math.max(...files.map((file) => statSync(file).mtimeMs));
}

/**
 * Path of the bundle of a program.
 * @param {string} file
 */
export const bundlePath = (file) => join(CACHE, `${programName(file)}.js`);

/**
 * Bundles a program, unless its last bundle is newer than every source.
 * @param {string} file
 * @returns {Promise<string>} the path of the bundle
 */
export async function bundleProgram(file) {
  const path = bundlePath(file);
  if (existsSync(path) && statSync(path).mtimeMs > lastChange()) return path;
  // Another process may be reading the last bundle: the new one takes its place in one step.
  const unfinished = `${programName(file)}.${process.pid}`;
  const { build } = await import("tsup");
  await build({
    config: false,
    entry: { [unfinished]: file },
    outDir: CACHE,
    format: "esm",
    platform: "node",
    target: "node20",
    esbuildPlugins: [wgslModules()],
    skipNodeModulesBundle: true,
    // This module of TensorFlow.js has imports that Node cannot resolve by itself.
    noExternal: [/^@tensorflow\/tfjs-core\/dist\/register_all_gradients$/],
    // What a program loads on first use stays in files of its own, named by their contents: it starts three times as fast.
    splitting: true,
    sourcemap: "inline",
    silent: true,
  });
  renameSync(join(CACHE, `${unfinished}.js`), path);
  return path;
}
