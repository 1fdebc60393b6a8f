import { ConfigError, FileFormatError } from "../base/errors";
import { readConfig } from "../io/checkpoint";
import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";
import { checkStoredInit, isPartOfWeights } from "../io/lora-base";
import { readAdapterDirectory } from "../io/peft";
import { stripPrefix, unwrappedKeys } from "../io/peft-keys";
import { parseLoraConfig, scaleOf } from "../io/peft-lora";
import type { LoraConfig } from "../io/peft-lora";
import type { FloatTensor } from "../io/safetensors";
import { createModel, loadFamily } from "../model/families";
import type { Model } from "../model/model";
import type { GgufFormat } from "./encodings";
import { ggufFamily, ggufModule, interleaved, interleavedHeads } from "./families";
import type { ModelHeads } from "./families";
import { ggufContent } from "./file";
import type { GgufMetadata, GgufTensor } from "./file";
import { sizesOf } from "./sizes";

export interface GgufAdapterOptions {
  /** The model that the adapter was trained on: of it config.json alone is read. */
  readonly model: DirectoryLike;
  /** Where the file goes. */
  readonly directory: DirectoryLike;
  /** Default "adapter.gguf". */
  readonly file?: string;
  /** Format of its matrices. Default "f32". */
  readonly format?: Exclude<GgufFormat, "q8_0">;
}

/** Blocks of 32 elements are longer than most ranks. */
const ADAPTER_FORMATS: readonly GgufFormat[] = ["f32", "f16"];

/** One factor of a LoRA. */
interface Factor {
  readonly module: string;
  readonly part: "A" | "B";
  readonly tensor: FloatTensor;
}

/**
 * Writes a LoRA adapter as llama.cpp loads it (`--lora FILE`), beside the same base model in GGUF. Factors by module, rank patterns
 * and rank stabilisation go into B where one alpha cannot say them.
 * @returns the number of modules.
 * @throws ConfigError for what GGUF's adapters cannot hold: other kinds, DoRA, biases, saved modules, embeddings, and families that are not
 * exported; the remedy is to export the merged model. FileFormatError for damaged files.
 */
export async function exportGgufAdapter(adapter: DirectoryLike, options: GgufAdapterOptions): Promise<number> {
  const { directory, model, file = "adapter.gguf", format = "f32" } = options;
  if (!ADAPTER_FORMATS.includes(format)) {
    throw new ConfigError(`format is ${format}; adapters are written in f32 or f16.`, "Give one of them.");
  }
  const source = await directoryAt(adapter);
  const { config, tensors } = await readAdapterDirectory(source);
  if (config.peft_type !== "LORA") throw notHeld(`is of kind ${config.peft_type}`, source.name);
  const lora = parseLoraConfig(config, source.name);
  if (lora.use_dora) throw notHeld("is a DoRA", source.name);
  checkStoredInit(lora.init_lora_weights, source.name);
  if (isPartOfWeights(lora.init_lora_weights))
    throw notHeld(`is for a base without what ${lora.init_lora_weights} takes out of it`, source.name);
  if (lora.bias !== "none") throw notHeld(`trains biases (bias: ${lora.bias})`, source.name);
  const base = await readConfig(await directoryAt(model));
  await loadFamily(base);
  const described = createModel(base);
  const factors = factorsOf(tensors, source.name);
  const { metadata, written } = contentOf(factors, lora, described, sizesOf(base, described), format, source.name);
  await (await directoryAt(directory)).write(file, ggufContent(metadata, written));
  return written.length / 2;
}

/** @throws ConfigError for a tensor that is no factor of a LoRA on a projection, FileFormatError for a factor without the other. */
function factorsOf(tensors: ReadonlyMap<string, FloatTensor>, where: string): Factor[] {
  const factors = [...unwrappedKeys(tensors)].map(([key, tensor]) => {
    const [, module, part] = /^(.+)\.lora_([AB])\.weight$/.exec(stripPrefix(key)) ?? [];
    if (module === undefined) throw notHeld(`has ${stripPrefix(key)}`, where);
    return { module, part: part === "A" ? ("A" as const) : ("B" as const), tensor };
  });
  for (const { module, part } of factors) {
    if (factors.some((other) => other.module === module && other.part !== part)) continue;
    throw new FileFormatError(
      `${where} has lora_${part} of ${module}, and lacks the other factor.`,
      "Save the adapter again.",
    );
  }
  return factors;
}

function contentOf(
  factors: readonly Factor[],
  lora: LoraConfig,
  model: Model,
  heads: ModelHeads,
  format: GgufFormat,
  where: string,
): { metadata: GgufMetadata; written: GgufTensor[] } {
  const family = ggufFamily(model);
  const rankOf = (module: string): number =>
    factors.find((factor) => factor.module === module && factor.part === "A")!.tensor.shape[0]!;
  // llama.cpp multiplies by alpha / rows of A; a file has one alpha.
  const alphaOf = (module: string): number => scaleOf(lora, module) * rankOf(module);
  const alpha = factors.map(({ module }) => alphaOf(module)).find((value) => value !== 0) ?? 1;
  const written = factors.map(({ module, part, tensor }): GgufTensor => {
    const name = ggufModule(family, module);
    if (name === undefined || name === "token_embd") throw notHeld(`adapts ${module}`, where);
    const [rows = 0] = tensor.shape;
    const headCount = part === "B" ? interleavedHeads(family, module, heads) : undefined;
    const factor = part === "B" ? alphaOf(module) / alpha : 1;
    return {
      name: `${name}.weight.lora_${part.toLowerCase()}`,
      shape: tensor.shape,
      format,
      read: () => {
        const scaled = factor === 1 ? tensor.data : tensor.data.map((value) => value * factor);
        return Promise.resolve(headCount === undefined ? scaled : interleaved(scaled, rows, headCount));
      },
    };
  });
  return {
    metadata: {
      "general.type": { string: "adapter" },
      "general.architecture": { string: family.architecture },
      "adapter.type": { string: "lora" },
      "adapter.lora.alpha": { f32: alpha },
    },
    written,
  };
}

const notHeld = (what: string, where: string): ConfigError =>
  new ConfigError(
    `The adapter in ${where} ${what}, and llama.cpp loads LoRA on projections alone.`,
    "Merge it with safetape merge --into (mergeIntoModel), and export the merged model.",
  );
