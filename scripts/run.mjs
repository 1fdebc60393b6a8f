// @ts-check
// Runs a TypeScript program of this repository, such as a bench: bundles it like the library, with kernels as text, and starts
// it in the repository's root. Only the program writes to stdout; everything else goes to stderr.
//
//   node scripts/run.mjs FILE.ts [ARGUMENTS OF THE PROGRAM]
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, renameSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ensureVulkan } from "./ensure-vulkan.mjs";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const CACHE = join(ROOT, "node_modules", ".cache", "safetape");

/** Folders with everything that a program may import, apart from packages. */
const SOURCES = ["src", "kernels", "bench", "scripts", "test"];

/** Time of the last change to any source. */
function lastChange() {
  const files = SOURCES.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
      .filter((name) => /\.(?:ts|mjs|wgsl)$/.test(name))
      .map((name) => join(ROOT, folder, name)),
  );
  return Math.max(...files.map((file) => statSync(file).mtimeMs));
}

/**
 * Bundles a program, unless its last bundle is newer than every source.
 * @param {string} file
 * @returns {Promise<string>} the path of the bundle
 */
async function bundle(file) {
  const name = file.replace(/\.ts$/, "").replaceAll(/[\\/]/g, "-");
  const path = join(CACHE, `${name}.js`);
  if (existsSync(path) && statSync(path).mtimeMs > lastChange()) return path;
  // Another process may be reading the last bundle: the new one takes its place in one step.
  const unfinished = `${name}.${process.pid}`;
  const { build } = await import("tsup");
  await build({
    config: false,
    entry: { [unfinished]: file },
    outDir: CACHE,
    format: "esm",
    platform: "node",
    target: "node20",
    loader: { ".wgsl": "text" },
    skipNodeModulesBundle: true,
    // This module of TensorFlow.js has imports that Node cannot resolve by itself.
    noExternal: [/^@tensorflow\/tfjs-core\/dist\/register_all_gradients$/],
    splitting: false,
    sourcemap: "inline",
    silent: true,
  });
  renameSync(join(CACHE, `${unfinished}.js`), path);
  return path;
}

/** @param {string[]} args */
async function main([file, ...args]) {
  if (!file?.endsWith(".ts")) {
    console.error(`"${file ?? ""}" is not a TypeScript program.\nUsage: node scripts/run.mjs FILE.ts [ARGUMENTS]`);
    return 2;
  }
  await ensureVulkan();
  const program = await bundle(file);
  const { status } = spawnSync(process.execPath, ["--enable-source-maps", program, ...args], {
    cwd: ROOT,
    stdio: "inherit",
  });
  return status ?? 1;
}

main(process.argv.slice(2)).then(
  (status) => (process.exitCode = status),
  (/** @type {unknown} */ error) => {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  },
);
