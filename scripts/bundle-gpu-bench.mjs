// @ts-check
// Bundles bench/gpu.ts with everything but Node and the npm package `webgpu` in one file, for a machine with a GPU and without a
// checkout. It writes bench/results below the folder in which it runs, and records the commit of this checkout.
//
//   node scripts/bundle-gpu-bench.mjs FOLDER    writes FOLDER/bench-gpu.mjs
import { build } from "tsup";
import { COMMIT_VARIABLE, commit } from "./provenance.mjs";
import { wgslModules } from "./wgsl-modules.mjs";

const [folder] = process.argv.slice(2);
if (!folder) {
  console.error("Usage: node scripts/bundle-gpu-bench.mjs FOLDER");
  process.exit(2);
}
await build({
  config: false,
  entry: { "bench-gpu": "bench/gpu.ts" },
  outDir: folder,
  outExtension: () => ({ js: ".mjs" }),
  format: "esm",
  platform: "node",
  target: "node20",
  esbuildPlugins: [wgslModules()],
  // Pictures of charts are not drawn there, and their renderer is a native module.
  external: ["webgpu", "@resvg/resvg-js"],
  noExternal: [/^(?!webgpu$|@resvg|node:)/],
  // Packages that are CommonJS call `require` for Node's modules.
  banner: {
    js: `import { createRequire } from "node:module"; const require = createRequire(import.meta.url); process.env.${COMMIT_VARIABLE} ??= ${JSON.stringify(commit())};`,
  },
  splitting: false,
  silent: true,
});
