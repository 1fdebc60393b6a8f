import { defineConfig, type Options } from "tsup";
import { licences } from "./scripts/licences.mjs";

const library = { index: "src/index.ts", node: "src/node/index.ts" };

const common: Options = {
  target: "es2022",
  // One build serves browsers and Node: only src/node and src/cli import Node's modules, and those stay imports.
  platform: "neutral",
  external: [/^node:/, "webgpu"],
  loader: { ".wgsl": "text" },
  sourcemap: true,
  dts: { entry: library },
};

/** The drawing of reports is an ES module of its own, loaded by who draws one; CommonJS loads the very same. */
const REPORT = { entry: "src/report/save.ts", file: "./report.js" };

export default defineConfig([
  // The entries share chunks, so that a class is the same class whichever entry it came from.
  {
    ...common,
    entry: { ...library, cli: "src/cli/main.ts", report: REPORT.entry },
    format: "esm",
    splitting: true,
    clean: true,
    // What is bundled (devDependencies: what draws reports and the terminal) has its authors' licences beside it.
    esbuildPlugins: [licences("THIRD-PARTY-LICENCES.txt")],
    esbuildOptions: (options) => {
      options.mainFields = ["module", "main"];
    },
  },
  {
    ...common,
    entry: library,
    format: "cjs",
    splitting: false,
    esbuildPlugins: [
      {
        name: "report-apart",
        setup: (build) =>
          void build.onResolve({ filter: /\/report\/save$/ }, () => ({ path: REPORT.file, external: true })),
      },
    ],
    // `webgpu` is an ES module: in CommonJS it can only be loaded by a real import().
    esbuildOptions: (options) => {
      options.supported = { "dynamic-import": true };
    },
  },
]);
