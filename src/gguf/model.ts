import { ConfigError, FileFormatError } from "../base/errors";
import { openCheckpoint } from "../io/checkpoint";
import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";
import { createModel, loadFamily } from "../model/families";
import { BLOCK, GGUF_FORMATS } from "./encodings";
import type { GgufFormat } from "./encodings";
import { ggufFamily, ggufModule, interleaved, interleavedHeads } from "./families";
import { ggufContent } from "./file";
import type { GgufMetadata, GgufTensor } from "./file";
import { modelMetadata } from "./metadata";
import { ggufRope } from "./rope";
import { sizesOf } from "./sizes";
import { tokenizerMetadata } from "./tokenizer";

export interface GgufModelOptions {
  /** Where the file goes. */
  readonly directory: DirectoryLike;
  /** Default "model.gguf". */
  readonly file?: string;
  /** Format of matrices; vectors are in f32. Default "f16". */
  readonly format?: GgufFormat;
  /** `general.name`. Default: the directory's. */
  readonly name?: string;
}

/** `general.file_type` of the formats: llama.cpp's LLAMA_FTYPE. */
const FILE_TYPES: Readonly<Record<GgufFormat, number>> = { f32: 0, f16: 1, q8_0: 7 };

/**
 * Writes a model of a Hugging Face directory as llama.cpp runs it, with its tokenizer and chat template.
 * @returns the number of tensors.
 * @throws ConfigError for families, keys and tokenizers that llama.cpp does not compute as this library does, by name; DtypeError for an
 * element that 16 bits cannot hold; FileFormatError for damaged files. The file is then as it was.
 */
export async function exportGgufModel(model: DirectoryLike, options: GgufModelOptions): Promise<number> {
  const { directory, file = "model.gguf", format = "f16", name } = options;
  if (!GGUF_FORMATS.includes(format)) {
    throw new ConfigError(`format is ${format}.`, `Formats of GGUF that are written: ${GGUF_FORMATS.join(", ")}.`);
  }
  const source = await directoryAt(model);
  const checkpoint = await openCheckpoint(source);
  await loadFamily(checkpoint.config);
  const described = createModel(checkpoint.config);
  const family = ggufFamily(described);
  const sizes = sizesOf(checkpoint.config, described);
  const rope = ggufRope(described.family, checkpoint.config, sizes);
  const ofModel = { ...modelMetadata(described, checkpoint.config, sizes), ...rope.metadata };
  const metadata: GgufMetadata = {
    "general.architecture": { string: family.architecture },
    "general.type": { string: "model" },
    "general.name": { string: name ?? source.name.split("/").findLast((part) => part !== "") ?? "model" },
    "general.file_type": { u32: FILE_TYPES[format] },
    ...Object.fromEntries(Object.entries(ofModel).map(([key, value]) => [`${family.architecture}.${key}`, value])),
    ...(await tokenizerMetadata(source, sizes.vocab_size)),
  };
  const tensors = described.parameters.map(({ name: parameter, shape }): GgufTensor => {
    const [, module = "", kind = ""] = /^(.*)\.(weight|bias)$/.exec(parameter) ?? [];
    const ggufName = ggufModule(family, module);
    const stored = [parameter, parameter.replace(/^model\./, "")].find((each) => checkpoint.has(each));
    if (ggufName === undefined || stored === undefined) {
      throw new FileFormatError(
        ggufName === undefined
          ? `GGUF has no name for ${parameter} of ${described.family}.`
          : `The checkpoint ${source.name} lacks ${parameter}.`,
        "Export a complete model of a supported family.",
      );
    }
    const isVector = shape.length === 1;
    const fits = format !== "q8_0" || shape.at(-1)! % BLOCK === 0;
    const heads = interleavedHeads(family, module, sizes);
    const offset = isVector && kind === "weight" ? (family.normOffset ?? 0) : 0;
    return {
      name: `${ggufName}.${kind}`,
      shape,
      format: isVector ? "f32" : fits ? format : "f16",
      read: async () => {
        const values = await checkpoint.read(stored);
        const shifted = offset === 0 ? values : values.map((value) => value + offset);
        return heads === undefined ? shifted : interleaved(shifted, shape[0]!, heads);
      },
    };
  });
  await (await directoryAt(directory)).write(file, ggufContent(metadata, [...rope.tensors, ...tensors]));
  return tensors.length + rope.tensors.length;
}
