// @ts-check
// Runs a TypeScript program of this repository, such as a bench: bundles it like the library, and starts
// it in the repository's root. Only the program writes to stdout; everything else goes to stderr.
//
//   node scripts/run.mjs FILE.ts [ARGUMENTS OF THE PROGRAM]
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { bundleProgram } from "./bundle-program.mjs";
import { ensureVulkan } from "./ensure-vulkan.mjs";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** @param {string[]} args */
async function main([file, ...args]) {
  if (!file?.endsWith(".ts")) {
    console.error(`"${file ?? ""}" is not a TypeScript program.\nUsage: node scripts/run.mjs FILE.ts [ARGUMENTS]`);
    return 2;
  }
  await ensureVulkan();
  const program = await bundleProgram(file);
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
