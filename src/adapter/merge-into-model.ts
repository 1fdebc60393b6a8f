import { ConfigError, DtypeError } from "../base/errors";
import { encodeBf16, encodeF16 } from "../base/float";
import { OVERFLOW } from "../base/packed";
import { elements } from "../base/shape";
import { writeCheckpoint } from "../io/checkpoint";
import { companionFiles } from "../io/companion-files";
import type { Directory, NewFile } from "../io/directory";
import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";
import { openModel } from "../io/load-model";
import type { OpenedModel } from "../io/load-model";
import { cardFiles, checkedBaseModel, hubIdOf, publishedBase } from "../io/model-card";
import type { ModelCard } from "../io/model-card";
import { readAdapterDirectory } from "../io/peft";
import type { PeftConfig } from "../io/peft";
import type { TensorToWrite } from "../io/safetensors-write";
import type { HeadOptions } from "../model/families";
import { adapterOfFile } from "./file";
import { mergedModel } from "./merged-model";
import type { MergedTensor } from "./merged-model";

/** Formats of a merged model's weights. */
export const MERGED_FORMATS = ["f32", "f16", "bf16"] as const;

export type MergedFormat = (typeof MERGED_FORMATS)[number];

/** How an adapter is merged into a model. The head is chosen as for `loadModel`; default that of config.json, of a language model's adapter its own. */
export interface MergeIntoModelOptions extends HeadOptions {
  /** Format of the weights, to which sums are rounded. Default that of most elements of the model. */
  readonly format?: MergedFormat;
  /** What the model card beside the result says besides what was merged into what; false writes none. Default: nothing else. */
  readonly card?: ModelCard | false;
  /** Called with the number of tensors that are written, and of all. */
  readonly onProgress?: (done: number, of: number) => void;
}

/** A result of `mergeIntoModel`. */
export interface MergedIntoModel {
  readonly format: MergedFormat;
  /** Tensors that were written. */
  readonly tensors: number;
}

/** torch's names of formats, and those of safetensors. */
const TYPES: Readonly<Record<MergedFormat, string>> = { f32: "float32", f16: "float16", bf16: "bfloat16" };

/**
 * Merges an adapter into the weights of a model, and writes the result as a Hugging Face directory that needs no adapter, with the files of
 * the tokenizer and the like. Weights are read and written one at a time: no GPU is needed, and memory for the largest of them alone.
 * @param adapter directory in PEFT's layout, of any kind that changes weights.
 * @throws ConfigError for an adapter that does not change weights (bottlenecks, prompts), or adds biases that the family's config.json cannot
 * express, and for a head that neither the model nor the adapter has; FileFormatError, ShapeError for damaged files or an adapter of another
 * model; DtypeError for a sum that `format` cannot hold. Nothing is then written.
 */
export async function mergeIntoModel(
  adapter: DirectoryLike,
  model: DirectoryLike,
  out: DirectoryLike,
  options: MergeIntoModelOptions = {},
): Promise<MergedIntoModel> {
  const [source, base] = [await directoryAt(adapter), await directoryAt(model)];
  const file = await readAdapterDirectory(source);
  const opened = await openModel(base, headFor(file.config, options));
  const { checkpoint, sources } = opened;
  const read = async (name: string): Promise<Float32Array> => checkpoint.read(sources.get(name)!);
  const shapeOf = (name: string) => opened.model.parameters.find((parameter) => parameter.name === name)!.shape;
  const { adapter: loaded, tensors } = await adapterOfFile(file, opened.model, source.name, {
    isLoaded: async (name, { data }) => {
      const own = sources.has(name) ? await read(name) : [];
      return data.every((value, i) => value === own[i]);
    },
    read: async (name) => ({ shape: shapeOf(name), data: await read(name) }),
  });
  const missing = opened.model.parameters.filter(({ name }) => !sources.has(name) && !tensors.has(name));
  const random = missing.find(({ isBuffer }) => !isBuffer);
  if (random) {
    throw new ConfigError(
      `Neither the model in ${base.name} nor the adapter in ${source.name} has ${random.name}.`,
      "Give the head that the adapter was trained with.",
    );
  }
  const constants = new Set(missing.map(({ name }) => name));
  const merged = mergedModel(loaded, opened.model, tensors, (name) =>
    sources.has(name) ? read(name) : Promise.resolve(tensors.get(name)!.data),
  );
  const format = options.format ?? commonFormat(opened);
  const kept = merged.tensors.filter(({ name }) => !constants.has(name));
  let done = 0;
  const written = kept.map((tensor) => inFormat(tensor, format, () => options.onProgress?.(++done, kept.length)));
  const directory = await directoryAt(out, { create: true });
  const card = await cardBeside(directory, options.card ?? {}, file.config, opened);
  const beside = [...(await companionFiles(base, directory)), ...card];
  await writeCheckpoint(directory, merged.config, written, beside, TYPES[format]);
  return { format, tensors: written.length };
}

/** Tasks of heads by PEFT's names. That of a classifier of texts follows from config.json or the labels. */
const HEADS: Readonly<Record<string, HeadOptions["task"]>> = {
  CAUSAL_LM: "generation",
  SEQ_2_SEQ_LM: "generation",
  TOKEN_CLS: "token_classification",
  QUESTION_ANS: "question_answering",
};

/** The head that an adapter was trained with, as far as its files say so. */
function headFor({ task_type: type }: PeftConfig, { task, labels, labelNames }: HeadOptions): HeadOptions {
  return { task: task ?? HEADS[String(type)], labels, labelNames };
}

/** The format of most elements of a model. */
function commonFormat({ checkpoint, sources }: OpenedModel): MergedFormat {
  const counts: Record<MergedFormat, number> = { f32: 0, f16: 0, bf16: 0 };
  for (const name of sources.values()) {
    const { dtype, shape } = checkpoint.info(name);
    counts[dtype === "F16" ? "f16" : dtype === "BF16" ? "bf16" : "f32"] += elements(shape);
  }
  return MERGED_FORMATS.reduce((most, format) => (counts[format] > counts[most] ? format : most));
}

/** A tensor in a format, in which it is written. */
function inFormat({ name, shape, data }: MergedTensor, dtype: MergedFormat, onDone: () => void): TensorToWrite {
  return {
    name,
    shape,
    dtype,
    data: async () => {
      const values = await data();
      const outside = values.find((value) => !(Math.abs(value) < OVERFLOW[dtype]));
      if (outside !== undefined) {
        throw new DtypeError(
          `The merged ${name} has the element ${outside}, which ${dtype} cannot hold.`,
          `Write it with the format ${dtype === "f16" ? "bf16 or f32" : "f32"}, or check the run that trained the adapter.`,
        );
      }
      onDone();
      return dtype === "f32" ? values : dtype === "f16" ? encodeF16(values) : encodeBf16(values);
    },
  };
}

/** The result's model card. */
async function cardBeside(
  out: Directory,
  card: ModelCard | false,
  { peft_type: peftType, base_model_name_or_path: named }: PeftConfig,
  { model, checkpoint }: OpenedModel,
): Promise<NewFile[]> {
  if (card === false) return [];
  const ofAdapter = typeof named === "string" ? await publishedBase(named) : undefined;
  const known = hubIdOf(checkpoint.directory.name) ?? ofAdapter;
  const baseModel = card.baseModel === undefined ? known : checkedBaseModel(card.baseModel);
  return cardFiles(out, { made: "into model", peftType, task: model.task, baseModel }, card);
}
