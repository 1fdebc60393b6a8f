import type { Engine } from "../engine";
import type { Directory } from "../io/directory";
import { loadModel as loadCoreModel } from "../io/load-model";
import type { LoadedModel, LoadOptions } from "../io/load-model";
import { openDirectory } from "./directory";

/** Loads a model from a directory, or from the path of one on disk. */
export async function loadModel(
  engine: Engine,
  directory: string | Directory,
  options?: LoadOptions,
): Promise<LoadedModel> {
  return loadCoreModel(engine, typeof directory === "string" ? await openDirectory(directory) : directory, options);
}
