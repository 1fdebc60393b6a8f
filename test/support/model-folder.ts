import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createEngine, initialiseModel, openDirectory, saveModel } from "safetape";
import type { Config } from "./tiny";

/** Folders with the tokenizer of a family. */
export const TOKENIZERS = { example: "examples/model", gpt2: "test/interop-data/tokenizers/gpt2" } as const;

interface ModelFolderOptions {
  /** A folder whose tokenizer is copied. */
  readonly tokenizer?: string;
  /** Seed of the weights. */
  readonly seed?: number;
}

/** Writes a folder with a model of random weights, as the command-line program reads it. */
export async function writeModel(folder: string, config: Config, options: ModelFolderOptions = {}): Promise<string> {
  const { tokenizer, seed = 0 } = options;
  using engine = await createEngine();
  using model = await initialiseModel(engine, config, { seed });
  await saveModel(await openDirectory(folder, { create: true }), model);
  if (tokenizer !== undefined) {
    for (const file of ["tokenizer.json", "tokenizer_config.json"])
      copyFileSync(join(tokenizer, file), join(folder, file));
  }
  return folder;
}

/** Writes the first rows of the sentiment example's training and evaluation data. */
export function writeSentiment(folder: string, rows: number): string {
  for (const file of ["train.tsv", "dev.tsv"]) {
    const lines = readFileSync(`examples/data/sentiment/${file}`, "utf8").split("\n");
    writeFileSync(join(folder, file), `${lines.slice(0, rows + 1).join("\n")}\n`);
  }
  return folder;
}
