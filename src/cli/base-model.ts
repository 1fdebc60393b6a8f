import { remarkOfOtherBase } from "../io/base-samples";
import { readConfig } from "../io/checkpoint";
import type { Directory } from "../io/directory";
import { createModel, loadFamily } from "../model/families";
import type { Model } from "../model/model";
import { openDirectory } from "../node/index";

/**
 * Opens the adapter that is used with a model whose weights are not loaded, and says on stderr if it was trained on another one, as
 * `loadAdapter` does.
 * @param modelPath a directory, of which a configuration alone says nothing about weights.
 */
export async function openAdapter(path: string, modelPath: string): Promise<Directory> {
  const [adapter, directory] = [await openDirectory(path), await openDirectory(modelPath)];
  const model = await modelOf(directory);
  const remark = model && (await remarkOfOtherBase(adapter, directory, model));
  if (remark !== undefined) process.stderr.write(`${remark}\n`);
  return adapter;
}

/** The model of a directory's config.json; undefined if that is not a model's, which the command itself says when it reads it. */
async function modelOf(directory: Directory): Promise<Model | undefined> {
  try {
    const config = await readConfig(directory);
    await loadFamily(config);
    return createModel(config);
  } catch {
    return undefined;
  }
}
