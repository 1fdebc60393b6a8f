import { differingWeight } from "../io/base-samples";
import { readConfig } from "../io/checkpoint";
import type { Directory } from "../io/directory";
import { readJson } from "../io/json";
import { ADAPTER_CONFIG_FILE } from "../io/peft";
import { createModel, loadFamily } from "../model/families";
import { openDirectory } from "../node/index";
import * as v from "valibot";

const NAMES = v.looseObject({ base_model_name_or_path: v.nullish(v.string()) });

/**
 * Opens the adapter that is used with a model, and says on stderr if it was trained on another one: that may be meant, but its answers are
 * not those that it learnt.
 * @param modelPath a directory, of which a configuration alone says nothing about weights.
 */
export async function openAdapter(path: string, modelPath: string): Promise<Directory> {
  const [adapter, model] = [await openDirectory(path), await openDirectory(modelPath)];
  const weight = await weightOfOther(adapter, model);
  if (weight === undefined) return adapter;
  const { base_model_name_or_path: base } = await readJson(adapter, ADAPTER_CONFIG_FILE, NAMES);
  process.stderr.write(
    `The adapter in ${path} was trained on ${base ?? "another model"}, whose ${weight} is not that of ${modelPath}.\n` +
      "Use it with the model that it was trained on, unless this one is meant.\n",
  );
  return adapter;
}

/** A damaged file is told by whoever reads it for its contents. */
async function weightOfOther(adapter: Directory, directory: Directory): Promise<string | undefined> {
  try {
    const config = await readConfig(directory);
    await loadFamily(config);
    return await differingWeight(adapter, directory, createModel(config));
  } catch {
    return undefined;
  }
}
