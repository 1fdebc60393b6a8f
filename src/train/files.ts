import type { Adapter, Tensors } from "../adapter/adapter";
import { adapterFile, adapterOfFile } from "../adapter/file";
import { asLora } from "../adapter/as-lora";
import { mergedBiases, mergedParameter } from "../adapter/merge";
import { ConfigError } from "../base/errors";
import { writeCheckpoint } from "../io/checkpoint";
import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";
import type { LoadedModel } from "../io/load-model";
import type { FloatTensor } from "../io/safetensors";
import { readAdapterDirectory, writeAdapterDirectory } from "../io/peft";
import type { TensorToWrite } from "../io/safetensors-write";
import type { Trainer } from "./trainer";

export interface SaveAdapterOptions {
  /**
   * "lora" writes an adapter of low-rank updates (AFLoRA, VeRA, AdaLoRA, SoRA) as a plain LoRA that computes the same.
   * Default "own": the adapter's own kind.
   */
  readonly as?: "own" | "lora";
  /** Version of transformers whose module names are written; those of ViT changed in 5. Default 5. Both load here. */
  readonly transformers?: 4 | 5;
}

/**
 * Writes a trainer's adapter as a directory in PEFT's layout: both files or neither.
 *
 * After `loraPrune`, tensors have the shapes of the complete model, with zeros for what is removed, and the file has a mask
 * `MODULE.output_mask` [out] for every pruned projection in addition. `loadAdapter` applies the masks, so that the adapter on
 * the complete model computes what the pruned one does. PEFT has no such masks and leaves them aside: it loads the LoRA and
 * computes the same only on a base whose removed rows are 0. For other programs, write such a model with `saveMerged`.
 * @throws ConfigError for full tuning, which has no adapter (use `saveModel`), and for `as: "lora"` where the adapter is not
 * a low-rank update.
 */
export async function saveAdapter(
  directory: DirectoryLike,
  trainer: Trainer,
  { as = "own", transformers = 5 }: SaveAdapterOptions = {},
): Promise<void> {
  const { adapter, model: loaded } = trainer.options;
  if (adapter.trainsInPlace) {
    throw new ConfigError(`${adapter.kind} tuning has no adapter to save.`, "Use saveModel(directory, model).");
  }
  const tensors = await completeTensors(trainer);
  const { completeModel } = loaded;
  const file =
    as === "lora"
      ? asLora(adapter, completeModel, tensors, transformers)
      : adapterFile(adapter, completeModel, tensors, transformers, trainer.adapterState);
  const named = [...file.tensors].map(([name, tensor]) => ({ name, ...tensor }));
  await writeAdapterDirectory(await directoryAt(directory, { create: true }), file.config, named);
}

/**
 * Reads an adapter directory in PEFT's layout for a model.
 * @throws FileFormatError, ShapeError or ConfigError where it is damaged, of an unknown kind, or made for another model.
 */
export async function loadAdapter(
  place: DirectoryLike,
  { model }: LoadedModel,
): Promise<{ adapter: Adapter; tensors: Tensors }> {
  const directory = await directoryAt(place);
  return adapterOfFile(await readAdapterDirectory(directory), model, directory.name);
}

/** The trainer's tensors in the shapes of the complete model. */
async function completeTensors(trainer: Trainer): Promise<Tensors> {
  const tensors = await trainer.snapshot();
  return trainer.compaction?.complete(tensors) ?? tensors;
}

/**
 * Writes a model's current weights as a Hugging Face directory; after full tuning these are the tuned ones.
 * @throws ConfigError while a run has cut heads or neurons out of the model.
 */
export async function saveModel(directory: DirectoryLike, loaded: LoadedModel): Promise<void> {
  if (loaded.isCut) {
    throw new ConfigError(
      "A run has cut heads or neurons out of this model, which config.json cannot express.",
      "Use saveMerged(directory, trainer), or dispose of the trainer first.",
    );
  }
  await writeCheckpoint(
    await directoryAt(directory, { create: true }),
    loaded.model.config,
    weightsOf(loaded, (_name, value) => value),
  );
}

/**
 * Writes the model with the adapter merged into its weights, as a Hugging Face directory that needs no adapter. Pruned heads
 * and neurons are rows and columns of zeros in it, since config.json has one number of heads and neurons for all layers.
 * @throws ConfigError for an adapter that does not change weights (bottlenecks, prompts), or adds biases that the family's
 * config.json cannot express; nothing is then written.
 */
export async function saveMerged(directory: DirectoryLike, trainer: Trainer): Promise<void> {
  const { adapter, model: loaded } = trainer.options;
  const { completeModel } = loaded;
  const tensors = await completeTensors(trainer);
  const merged = mergedParameter(adapter, completeModel, tensors);
  const weights = weightsOf(loaded, merged, trainer.merging?.originals ?? trainer.compaction?.originals);
  const { config, biases } = mergedBiases(completeModel, tensors);
  const added = [...biases].map(([name, bias]) => ({ name, ...merged(name, bias) }));
  await writeCheckpoint(await directoryAt(directory, { create: true }), config, [...weights, ...added]);
}

/**
 * The weights of a complete model, each read and changed when it is written.
 * @param originals values as they were loaded, of weights that a run has replaced. Default none.
 */
function weightsOf(
  { completeModel, weights }: LoadedModel,
  change: (name: string, value: FloatTensor) => FloatTensor,
  originals?: ReadonlyMap<string, Float32Array>,
): TensorToWrite[] {
  return completeModel.parameters.map(({ name, shape }) => ({
    name,
    shape,
    data: async () => change(name, { shape, data: originals?.get(name) ?? (await weights.get(name)!.read()) }).data,
  }));
}
