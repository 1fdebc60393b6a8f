import type { Adapter, Tensors } from "../adapter/adapter";
import { adapterFile, adapterOfFile } from "../adapter/file";
import { asLora } from "../adapter/as-lora";
import { mergedBiases, mergedParameter } from "../adapter/merge";
import { ConfigError } from "../base/errors";
import { writeCheckpoint } from "../io/checkpoint";
import type { Directory } from "../io/directory";
import type { LoadedModel } from "../io/load-model";
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
 * @throws ConfigError for full tuning, which has no adapter (use `saveModel`), and for `as: "lora"` where the adapter is not
 * a low-rank update.
 */
export async function saveAdapter(
  directory: Directory,
  trainer: Trainer,
  { as = "own", transformers = 5 }: SaveAdapterOptions = {},
): Promise<void> {
  const { adapter, model: loaded } = trainer.options;
  if (adapter.trainsInPlace) {
    throw new ConfigError(`${adapter.kind} tuning has no adapter to save.`, "Use saveModel(directory, model).");
  }
  const tensors = await trainer.snapshot();
  const file =
    as === "lora"
      ? asLora(adapter, loaded.model, tensors, transformers)
      : adapterFile(adapter, loaded.model, tensors, transformers, trainer.adapterState);
  const named = [...file.tensors].map(([name, tensor]) => ({ name, ...tensor }));
  await writeAdapterDirectory(directory, file.config, named);
}

/**
 * Reads an adapter directory in PEFT's layout for a model.
 * @throws FileFormatError, ShapeError or ConfigError where it is damaged, of an unknown kind, or made for another model.
 */
export async function loadAdapter(
  directory: Directory,
  { model }: LoadedModel,
): Promise<{ adapter: Adapter; tensors: Tensors }> {
  return adapterOfFile(await readAdapterDirectory(directory), model, directory.name);
}

/** Writes a model's current weights as a Hugging Face directory; after full tuning these are the tuned ones. */
export async function saveModel(directory: Directory, loaded: LoadedModel): Promise<void> {
  await writeCheckpoint(
    directory,
    loaded.model.config,
    weightsOf(loaded, (_name, value) => value),
  );
}

/**
 * Writes the model with the adapter merged into its weights, as a Hugging Face directory that needs no adapter.
 * @throws ConfigError for an adapter that does not change weights (bottlenecks, prompts), or adds biases that the family's
 * config.json cannot express; nothing is then written.
 */
export async function saveMerged(directory: Directory, trainer: Trainer): Promise<void> {
  const { adapter, model: loaded } = trainer.options;
  const tensors = await trainer.snapshot();
  const merged = mergedParameter(adapter, loaded.model, tensors);
  const originals = trainer.merging?.originals;
  const weights = weightsOf(loaded, (name, data, shape) => {
    return merged(name, { shape, data: originals?.get(name) ?? data }).data;
  });
  const { config, biases } = mergedBiases(loaded.model, tensors);
  const added = [...biases].map(([name, bias]) => ({ name, ...merged(name, bias) }));
  await writeCheckpoint(directory, config, [...weights, ...added]);
}

/** A model's weights, each read and changed when it is written. */
function weightsOf(
  loaded: LoadedModel,
  change: (name: string, data: Float32Array, shape: readonly number[]) => Float32Array,
): TensorToWrite[] {
  return [...loaded.weights].map(([name, tensor]) => ({
    name,
    shape: tensor.shape,
    data: async () => change(name, await tensor.read(), tensor.shape),
  }));
}
