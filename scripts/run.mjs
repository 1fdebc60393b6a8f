// @ts-check
// Runs a TypeScript program of this repository, such as a bench: bundles it like the library, with kernels as text, and starts
// it in the repository's root. Only the program writes to stdout; everything else goes to stderr.
//
//   node scripts/run.mjs FILE.ts [ARGUMENTS OF THE PROGRAM]
import { spawnSync } from "node:child_process";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "tsup";
import { ensureVulkan } from "./ensure-vulkan.mjs";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const CACHE = join(ROOT, "node_modules", ".cache", "safetape");

/** @param {string} file @returns {Promise<string>} the path of the bundle */
async function bundle(file) {
  const name = basename(file, ".ts");
  await build({
    config: false,
    entry: { [name]: file },
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
  return join(CACHE, `${name}.js`);
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
