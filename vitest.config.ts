import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin, type TestProjectConfiguration } from "vitest/config";
import { wgslModule } from "./scripts/wgsl-modules.mjs";
import { driverEnvironment, findDrivers } from "./scripts/vulkan/drivers.mjs";

const TWO_MINUTES = 120_000;

/** Makes modules of kernels, as the bundler does. */
const kernelModules: Plugin = {
  name: "wgsl-modules",
  enforce: "pre",
  transform: (code, id) => (id.endsWith(".wgsl") ? { code: wgslModule(id, code), map: null } : null),
};

const sourcePath = (file: string): string => fileURLToPath(new URL(file, import.meta.url));

const shared = {
  plugins: [kernelModules],
  resolve: {
    alias: [
      { find: /^safetape$/, replacement: sourcePath("src/node/index.ts") },
      { find: /^safetape\/(\w+)$/, replacement: sourcePath("src/node/entry/$1.ts") },
    ],
  },
};

/** Tests that need no device; they run first, so that a broken plan is not reported as a broken kernel. */
const pure: TestProjectConfiguration = {
  ...shared,
  test: {
    name: "pure",
    include: ["test/*.test.ts", "test/pure/**/*.test.ts"],
    // They change nothing that another file reads, so that a process loads the sources once for all of its files.
    isolate: false,
    testTimeout: TWO_MINUTES,
    sequence: { groupOrder: 0 },
  },
};

/**
 * Tests on one software adapter, each file in a process of its own. Both run test/device, where kernels and what a step
 * does with them are tested; what whole runs do beyond that does not depend on the adapter, and test/runs is run by one.
 */
function onDevice(name: "llvmpipe" | "swiftshader", folders: readonly string[]) {
  // Kernels for GPUs take minutes to compile here; npm run test:variants has them.
  const exclude = process.env["SAFETAPE_ALL_FORMATS"] === undefined ? ["test/runs/gpu-kernels.test.ts"] : [];
  // What a step does with its kernels is tested on both by npm run test:long.
  if (name === "swiftshader" && process.env["SAFETAPE_LONG"] === undefined) exclude.push(...STEPS_ON_ONE);
  const driver = findDrivers().find((candidate) => candidate.name === name);
  return {
    ...shared,
    test: {
      name,
      include: folders.map((folder) => `test/${folder}/**/*.test.ts`),
      exclude,
      // Compiling kernels takes llvmpipe longer than running them on tests' sizes: a third less without LLVM's passes. Threads of its
      // own for such small work only add to what two test files do at once.
      env: {
        SAFETAPE_ADAPTER: name,
        GALLIVM_PERF: "nopt",
        LP_NUM_THREADS: "0",
        ...(driver ? driverEnvironment(driver) : {}),
      },
      globalSetup: `test/setup/${name}.ts`,
      testTimeout: TWO_MINUTES,
      hookTimeout: TWO_MINUTES,
      sequence: { groupOrder: 1 },
    },
  };
}

/** Tests of whole steps, which `npm test` runs on one adapter. */
const STEPS_ON_ONE = ["steps", "norms", "not-finite"].map((file) => `test/device/${file}.test.ts`);

/** The tests in test/browser: Chromium and its SwiftShader, and Node on the same driver beside it. */
const swiftshader = onDevice("swiftshader", ["device"]);
const browser: TestProjectConfiguration = {
  ...swiftshader,
  test: { ...swiftshader.test, name: "browser", include: ["test/browser/**/*.test.ts"] },
};

/** The tests in test/deno: wgpu with naga, Deno's WebGPU, on llvmpipe. */
const llvmpipe = onDevice("llvmpipe", ["deno"]);
const deno: TestProjectConfiguration = { ...llvmpipe, test: { ...llvmpipe.test, name: "deno" } };

export default defineConfig({
  test: {
    projects: [pure, onDevice("llvmpipe", ["device", "runs"]), swiftshader, browser, deno],
    pool: "forks",
    // A software adapter computes on the processor's cores itself: more processes would only slow each other down.
    maxWorkers: 2,
    passWithNoTests: false,
  },
});
