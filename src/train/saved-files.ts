import type { Adapter, Tensors } from "../adapter/adapter";
import { asLora } from "../adapter/as-lora";
import { adapterFile, adapterOfFile } from "../adapter/file";
import type { LoadedWeights } from "../adapter/file";
import { mergedModel } from "../adapter/merged-model";
import { ConfigError, DtypeError } from "../base/errors";
import { encodeF16 } from "../base/float";
import { decodeWeight, encodeWeight } from "../base/packed";
import { columns } from "../base/shape";
import { adapterMetadata, baseSamples, remarkOfOtherBase } from "../io/base-samples";
import { writeCheckpoint } from "../io/checkpoint";
import { companionFiles } from "../io/companion-files";
import type { Directory } from "../io/directory";
import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";
import type { LoadedModel } from "../io/load-model";
import { cardFiles, checkedBaseModel, hubIdOf } from "../io/model-card";
import type { ModelCard } from "../io/model-card";
import { readAdapterDirectory, writeAdapterDirectory } from "../io/peft";
import type { TensorToWrite } from "../io/safetensors-write";
import { warnBy } from "./loop/warnings";
import type { Trainer } from "./trainer";

export interface SaveAdapterOptions {
  /**
   * "lora" writes an adapter of low-rank updates (AFLoRA, VeRA, AdaLoRA, SoRA) as a plain LoRA that computes the same.
   * Default "own": the adapter's own kind.
   */
  readonly as?: "own" | "lora";
  /** Version of transformers whose module names are written; those of ViT changed in 5. Default 5. Both load here. */
  readonly transformers?: 4 | 5;
  /**
   * What the model card beside the adapter says (README.md, which a hub shows), besides its kind, task and base model. A README.md
   * that is no such card stays as it is. Default: nothing else; false writes no card.
   */
  readonly card?: ModelCard | false;
}

export interface SaveModelOptions {
  /** Type of the weights in the file. Default f32. */
  readonly dtype?: "f32" | "f16";
}

export interface LoadAdapterOptions {
  /** Told if the adapter was trained on another model of the same shapes, as far as it says. Default `console.warn`. */
  readonly warn?: (message: string) => void;
}

/** See `saveAdapter` of files.ts. */
export async function saveAdapter(
  directory: DirectoryLike,
  trainer: Trainer,
  { as = "own", transformers = 5, card = {} }: SaveAdapterOptions,
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
  const { name } = loaded.directory ?? {};
  const baseModel = baseModelOf(card, name);
  const config = { ...file.config, base_model_name_or_path: baseModel ?? name ?? null };
  const out = await directoryAt(directory, { create: true });
  const subject = { peftType: config.peft_type, task: completeModel.task, baseModel };
  const beside = card === false ? [] : await cardFiles(out, subject, card);
  await writeAdapterDirectory(out, config, named, beside, adapterMetadata(await samplesOf(loaded)));
}

/** What tells the base model from others; undefined where its files are not those of the weights, or gone: the adapter matters more. */
async function samplesOf({ directory, completeModel, isTrained }: LoadedModel): Promise<string | undefined> {
  return isTrained || !directory ? undefined : baseSamples(directory, completeModel).catch(() => undefined);
}

/** The base model's ID on the Hub: as a card gives it, or of the directory that it was loaded from. */
function baseModelOf(card: ModelCard | false, directory: string | undefined): string | undefined {
  if (card !== false && card.baseModel !== undefined) return checkedBaseModel(card.baseModel);
  return directory === undefined ? undefined : hubIdOf(directory);
}

/** See `loadAdapter` of files.ts. */
export async function loadAdapter(
  place: DirectoryLike,
  { model, weights, directory: base, completeModel, isTrained }: LoadedModel,
  options: LoadAdapterOptions,
): Promise<{ adapter: Adapter; tensors: Tensors }> {
  const directory = await directoryAt(place);
  const remark = isTrained || !base ? undefined : await remarkOfOtherBase(directory, base, completeModel);
  if (remark !== undefined) warnBy(options)(remark);
  const isLoaded: LoadedWeights["isLoaded"] = async (name, { shape, data }) => {
    const weight = weights.get(name);
    if (!weight || weight.dtype === "i32" || weight.dtype === "u32") return false;
    const stored = encodeWeight(data, columns(shape), weight.dtype);
    const words = new Uint32Array(stored.buffer, stored.byteOffset, stored.length);
    const values = decodeWeight(words, columns(shape), weight.dtype, data.length);
    const own = await weight.read();
    return values.every((value, i) => value === own[i]);
  };
  const read: LoadedWeights["read"] = async (name) => {
    const weight = weights.get(name)!;
    return { shape: weight.shape, data: await weight.read() };
  };
  return adapterOfFile(await readAdapterDirectory(directory), model, directory.name, { isLoaded, read });
}

/** The trainer's tensors in the shapes of the complete model. */
async function completeTensors(trainer: Trainer): Promise<Tensors> {
  const tensors = await trainer.snapshot();
  return trainer.compaction?.complete(tensors) ?? tensors;
}

/** See `saveModel` of files.ts. */
export async function saveModel(
  directory: DirectoryLike,
  loaded: LoadedModel,
  { dtype = "f32" }: SaveModelOptions = {},
): Promise<void> {
  if (loaded.isCut) {
    throw new ConfigError(
      "A run has cut heads or neurons out of this model, which config.json cannot express.",
      "Use saveMerged(directory, trainer), or dispose of the trainer first.",
    );
  }
  const { model, weights } = loaded;
  const read = (name: string): Promise<Float32Array> => weights.get(name)!.read();
  const tensors = model.parameters.map(({ name, shape }): TensorToWrite => {
    if (dtype === "f32") return { name, shape, data: () => read(name) };
    return { name, shape, dtype, data: async () => halved(name, await read(name)) };
  });
  const type = dtype === "f32" ? "float32" : "float16";
  await write(await directoryAt(directory, { create: true }), loaded, model.config, tensors, type);
}

/** The bits of values in f16. @throws DtypeError for a value beyond its range. */
function halved(name: string, values: Float32Array): Uint16Array {
  if (values.every((value) => Math.abs(value) < F16_LIMIT)) return encodeF16(values);
  throw new DtypeError(`${name} has values that 16 bits cannot hold.`, "Save the model in f32.");
}

/** Magnitudes from here on would become infinity. */
const F16_LIMIT = 65520;

/** Writes a model, and beside it what its own directory has beside the weights. */
async function write(
  directory: Directory,
  { directory: source }: LoadedModel,
  config: Readonly<Record<string, unknown>>,
  tensors: readonly TensorToWrite[],
  type?: string,
): Promise<void> {
  await writeCheckpoint(directory, config, tensors, source && (await companionFiles(source, directory)), type);
}

/** See `saveMerged` of files.ts. */
export async function saveMerged(directory: DirectoryLike, trainer: Trainer): Promise<void> {
  const { adapter, model: loaded } = trainer.options;
  const originals = trainer.merging?.originals ?? trainer.compaction?.originals;
  const read = async (name: string): Promise<Float32Array> =>
    originals?.get(name) ?? (await loaded.weights.get(name)!.read());
  const { config, tensors } = mergedModel(adapter, loaded.completeModel, await completeTensors(trainer), read);
  await write(await directoryAt(directory, { create: true }), loaded, config, tensors);
}
