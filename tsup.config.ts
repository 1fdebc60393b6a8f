import { defineConfig, type Options } from "tsup";
import { commonJs, coreInFewFiles, familiesLater, pureConstants, withoutCrypto } from "./scripts/bundle-plugins.mjs";
import { bundledLicences } from "./scripts/bundled-licences.mjs";
import { ENTRIES, EVERYTHING, nodeFileOf, nodeSourceOf, sourceOf } from "./scripts/subpaths.mjs";
import { studioFiles } from "./scripts/studio-files.mjs";
import { wgslModules } from "./scripts/wgsl-modules.mjs";

const common: Options = {
  target: "es2022",
  // Only src/node and src/cli import Node's modules, and those stay imports.
  platform: "neutral",
  external: [/^node:/, "webgpu"],
  sourcemap: true,
};

const library = Object.fromEntries(ENTRIES.map((name) => [name, sourceOf(name)]));
const nodeLibrary = Object.fromEntries(ENTRIES.map((name) => [nodeFileOf(name), nodeSourceOf(name)]));

/** Kernels that run on some adapters only: on GPUs, or where subgroups have one size. A page loads those of its adapter. */
const KERNELS_OF_SOME_ADAPTERS = [
  "attention_subgroup",
  "attention_tiled",
  "lora_gradients",
  "product_narrow_subgroup",
  "product_subgroup",
  "product_tiled",
  "product_tiled_half",
  "product_tiled_odd",
];

/** Kernels of methods that few runs use, and of families that load later than BERT. */
const KERNELS_OF_FEW_RUNS = [
  "accumulate",
  "cka",
  "apply_mask",
  "linear_cross_entropy",
  "mean_squared_error",
  "mul",
  "pack",
  "pool_tokens",
  "product_mean",
  "relu",
  "rms_norm",
  "scale",
  "scale_columns",
  "sensitivity",
  "soft_threshold",
  "swap_axes",
];

/** linkedom tries to require the package `canvas`, for elements that no report has. Bundlers would warn of that in every file. */
const WITHOUT_CANVAS = { canvas: "./node_modules/linkedom/commonjs/canvas-shim.cjs" };
const LATER = [...KERNELS_OF_SOME_ADAPTERS, ...KERNELS_OF_FEW_RUNS];

export default defineConfig([
  // Node's entries share chunks, so that a class is the same class whichever entry it came from. Their form in CommonJS, and that
  // of the other entries, is made of these ES modules.
  {
    ...common,
    entry: { ...library, ...nodeLibrary, [EVERYTHING.file]: EVERYTHING.source, cli: "src/cli/main.ts" },
    format: "esm",
    splitting: true,
    clean: true,
    dts: { entry: { ...library, ...nodeLibrary } },
    // What is bundled (devDependencies: what draws reports and the terminal) has its authors' licences beside it.
    esbuildPlugins: [
      wgslModules(),
      bundledLicences("THIRD-PARTY-LICENCES.txt"),
      pureConstants,
      commonJs({ entries: Object.keys({ ...library, ...nodeLibrary }), only: Object.keys(library) }),
    ],
    esbuildOptions: (options) => {
      options.mainFields = ["module", "main"];
      options.alias = WITHOUT_CANVAS;
    },
  },
  // For browsers: whole, so that a page can import it as it is, without a bundler, an import map or a looser policy.
  // What few runs need (tokenizers, generation, decoders of CSV, PNG and JPEG) are chunks that load on first use.
  {
    ...common,
    entry: library,
    format: "esm",
    splitting: true,
    minify: true,
    platform: "browser",
    noExternal: [/.*/],
    removeNodeProtocol: false,
    esbuildPlugins: [
      withoutCrypto,
      wgslModules({ compact: true, later: LATER }),
      familiesLater,
      coreInFewFiles,
      pureConstants,
    ],
  },
  // The studio: its page, the bench's, and its worker, with the library in them, so that the folder is complete by itself.
  {
    ...common,
    entry: {
      page: "examples/studio/page/page.ts",
      bench: "examples/studio/page/bench.ts",
      worker: "examples/studio/worker/worker.ts",
    },
    outDir: "dist/studio",
    format: "esm",
    splitting: true,
    minify: true,
    sourcemap: false,
    platform: "browser",
    external: [],
    noExternal: [/.*/],
    removeNodeProtocol: false,
    esbuildPlugins: [
      wgslModules({ compact: true, later: LATER }),
      bundledLicences("THIRD-PARTY-LICENCES.txt"),
      familiesLater,
      pureConstants,
      studioFiles,
    ],
    esbuildOptions: (options) => {
      options.alias = { ...WITHOUT_CANVAS, "node:crypto": "./scripts/no-crypto.mjs" };
    },
  },
]);
