import type { Adapter, Tensors } from "../adapter/adapter";
import type { DirectoryLike } from "../io/directory-like";
import type { LoadedModel } from "../io/load-model";
import type { LoadAdapterOptions, SaveAdapterOptions, SaveModelOptions } from "./saved-files";
import type { Trainer } from "./trainer";

export type { LoadAdapterOptions, SaveAdapterOptions, SaveModelOptions } from "./saved-files";

// What reads and writes files is loaded with the first of them.
const later = () => import("./saved-files");

/**
 * Writes a trainer's adapter as a directory in PEFT's layout: both files or neither, and with them a model card, README.md, unless
 * the directory has a README.md of somebody else.
 *
 * After `loraPrune`, tensors have the shapes of the complete model, with zeros for what is removed, and the file has a mask
 * `MODULE.output_mask` [out] for every pruned projection in addition. `loadAdapter` applies the masks, so that the adapter on
 * the complete model computes what the pruned one does. PEFT has no such masks and leaves them aside: it loads the LoRA and
 * computes the same only on a base whose removed rows are 0. For other programs, write such a model with `saveMerged`.
 * @throws ConfigError for full tuning, which has no adapter (use `saveModel`), for a `card.baseModel` that is no ID of the Hub,
 * and for `as: "lora"` where the adapter is not a low-rank update.
 */
export async function saveAdapter(
  directory: DirectoryLike,
  trainer: Trainer,
  options: SaveAdapterOptions = {},
): Promise<void> {
  return (await later()).saveAdapter(directory, trainer, options);
}

/**
 * Reads an adapter directory in PEFT's layout for a model. Says so if it is known to be trained on another model: see `warn`.
 * @throws FileFormatError, ShapeError or ConfigError where it is damaged, of an unknown kind, or made for another model.
 */
export async function loadAdapter(
  place: DirectoryLike,
  loaded: LoadedModel,
  options: LoadAdapterOptions = {},
): Promise<{ adapter: Adapter; tensors: Tensors }> {
  return (await later()).loadAdapter(place, loaded, options);
}

/**
 * Writes a model's current weights as a Hugging Face directory, in f32 or f16; after full tuning these are the tuned ones. Files of the
 * tokenizer and the like are copied from where the model was loaded, unless the directory has its own.
 * @throws ConfigError while a run has cut heads or neurons out of the model, DtypeError for values beyond the range of f16. Nothing is then
 * written.
 */
export async function saveModel(
  directory: DirectoryLike,
  loaded: LoadedModel,
  options?: SaveModelOptions,
): Promise<void> {
  return (await later()).saveModel(directory, loaded, options);
}

/**
 * Writes the model with the adapter merged into its weights, as a Hugging Face directory that needs no adapter: in f32, with files of
 * the tokenizer and the like as `saveModel` copies them. Pruned heads and neurons are rows and columns of zeros in it, since
 * config.json has one number of heads and neurons for all layers. A last projection that shares the embeddings' table no more,
 * since one of them was trained alone, has a weight of its own.
 * @throws ConfigError for an adapter that does not change weights (bottlenecks, prompts), or adds biases that the family's
 * config.json cannot express; nothing is then written.
 */
export async function saveMerged(directory: DirectoryLike, trainer: Trainer): Promise<void> {
  return (await later()).saveMerged(directory, trainer);
}
