// @ts-check
// What the studio has beside its scripts: the page, and the example's model and sentences. dist/studio is complete with them, so that
// any static host can serve it.
import { copyFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";

/** Files and folders of the repository, by where they are in the studio's folder. */
const FILES = {
  "index.html": "examples/studio/index.html",
  "bench.html": "examples/studio/bench.html",
  "style.css": "examples/studio/style.css",
  "icon.svg": "examples/studio/icon.svg",
  "data/reviews.tsv": "examples/data/sentiment/train.tsv",
};
const MODEL = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];

/** @type {NonNullable<import("tsup").Options["esbuildPlugins"]>[number]} */
export const studioFiles = {
  name: "studio-files",
  setup(build) {
    const folder = build.initialOptions.outdir ?? "dist/studio";
    build.onEnd(() => {
      for (const name of ["data", "model"]) mkdirSync(join(folder, name), { recursive: true });
      for (const [to, from] of Object.entries(FILES)) copyFileSync(from, join(folder, to));
      for (const file of MODEL) copyFileSync(join("examples/model", file), join(folder, "model", file));
    });
  },
};
