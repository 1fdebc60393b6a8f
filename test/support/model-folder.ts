import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createEngine, initialiseModel, openDirectory, saveModel } from "safetape";
import type { Config } from "./tiny";

/** Folders that contain a tokenizer. */
export const TOKENIZERS = { example: "examples/model", gpt2: "test/interop-data/tokenizers/gpt2" } as const;

interface ModelFolderOptions {
  /** A folder whose tokenizer is copied. Default: the model has none. */
  readonly tokenizer?: string;
  /** Seed of the weights. Default 0. */
  readonly seed?: number;
}

/** Writes a model of random weights for the command-line program to read. @returns the folder. */
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

/** Writes the first rows of the sentiment example's training and evaluation data. @returns the folder. */
export function writeSentiment(folder: string, rows: number): string {
  for (const file of ["train.tsv", "dev.tsv"]) {
    const lines = readFileSync(`examples/data/sentiment/${file}`, "utf8").split("\n");
    writeFileSync(join(folder, file), `${lines.slice(0, rows + 1).join("\n")}\n`);
  }
  return folder;
}
