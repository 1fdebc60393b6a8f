import { defineConfig, type Options } from "tsup";

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

export default defineConfig([
  // The entries share chunks, so that a class is the same class whichever entry it came from.
  { ...common, entry: { ...library, cli: "src/cli/main.ts" }, format: "esm", splitting: true, clean: true },
  {
    ...common,
    entry: library,
    format: "cjs",
    splitting: false,
    // `webgpu` is an ES module: in CommonJS it can only be loaded by a real import().
    esbuildOptions: (options) => {
      options.supported = { "dynamic-import": true };
    },
  },
]);
