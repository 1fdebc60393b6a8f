import * as v from "valibot";
import { FileFormatError } from "../base/errors";
import { checkFileName } from "./directory";
import type { Directory } from "./directory";
import { jsonBytes, readJson } from "./json";
import { entryOf, partOf, readFloats, readHeader } from "./safetensors";
import type { ElementRange } from "./safetensors";
import { safetensorsContent } from "./safetensors-write";
import type { TensorToWrite } from "./safetensors-write";
import type { TensorEntry } from "./safetensors-header";

export const CONFIG_FILE = "config.json";
export const WEIGHTS_FILE = "model.safetensors";
export const INDEX_FILE = "model.safetensors.index.json";

/** What holds for every model; each family checks its own keys. Unknown keys are kept. */
const CONFIG = v.looseObject({
  model_type: v.optional(v.string()),
  architectures: v.nullish(v.array(v.string())),
  id2label: v.nullish(v.record(v.string(), v.string())),
  label2id: v.nullish(v.record(v.string(), v.pipe(v.number(), v.integer()))),
});

const INDEX = v.looseObject({ weight_map: v.record(v.string(), v.string()) });

export interface TensorInfo {
  /** Element type as the file names it: "F32", "BF16", ... */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Bytes in the file. */
  readonly bytes: number;
}

/** A Hugging Face model directory, opened: the configuration, and tensors to be read one at a time. */
export interface Checkpoint {
  readonly directory: Directory;
  /** config.json, every key of it. Only those that every model has are checked: see `ModelConfig`. */
  readonly config: Readonly<Record<string, unknown>>;
  names(): string[];
  has(name: string): boolean;
  /** Throws FileFormatError for unknown names. */
  info(name: string): TensorInfo;
  /**
   * The tensor as f32, or a part of it. Throws FileFormatError for unknown names and for elements that it does not have,
   * DtypeError where it does not hold floats.
   */
  read(name: string, part?: ElementRange): Promise<Float32Array>;
  /** The tensor's bytes as the file has them, or a part of them. Throws FileFormatError as `read`. */
  bytes(name: string, part?: ElementRange): Promise<Uint8Array>;
}

interface Located extends TensorEntry {
  readonly file: string;
}

/**
 * Opens `config.json` and `model.safetensors`, or else the shards that `model.safetensors.index.json` lists. Reads
 * headers only. Throws FileFormatError for a missing, damaged or lying file, and for a shard name that is no file name.
 */
export async function openCheckpoint(directory: Directory): Promise<Checkpoint> {
  const config = await readConfig(directory);
  const tensors = await locate(directory);
  const find = (name: string): Located => entryOf(tensors, name, `the checkpoint ${directory.name}`);
  return {
    directory,
    config,
    names: () => [...tensors.keys()],
    has: (name) => tensors.has(name),
    info: (name) => {
      const { dtype, shape, start, end } = find(name);
      return { dtype, shape, bytes: end - start };
    },
    read: async (name, part) => {
      const entry = find(name);
      return readFloats(directory, entry.file, name, part ? partOf(entry, name, part) : entry);
    },
    bytes: async (name, part) => {
      const entry = find(name);
      const whole = { ...entry, dtype: "U8", shape: [entry.end - entry.start] };
      const { start, end } = part ? partOf(whole, name, part) : entry;
      return directory.read(entry.file, start, end);
    },
  };
}

/** config.json alone. Throws FileFormatError where it is missing or no JSON object. */
export async function readConfig(directory: Directory): Promise<Record<string, unknown>> {
  return readJson(directory, CONFIG_FILE, CONFIG);
}

async function locate(directory: Directory): Promise<Map<string, Located>> {
  if ((await directory.size(WEIGHTS_FILE)) !== undefined) return locateIn(directory, WEIGHTS_FILE);
  if ((await directory.size(INDEX_FILE)) !== undefined) return locateInShards(directory);
  const files = await directory.list();
  const torch = files.find((file) => file.startsWith("pytorch_model"));
  throw new FileFormatError(
    `neither ${WEIGHTS_FILE} nor ${INDEX_FILE} in ${directory.name}`,
    torch === undefined
      ? "check the path, or download the model's safetensors files"
      : `${torch} is a pickle, which is never loaded: save the model with safe_serialization=True`,
  );
}

async function locateIn(directory: Directory, file: string): Promise<Map<string, Located>> {
  const header = await readHeader(directory, file);
  return new Map([...header].map(([name, entry]) => [name, { ...entry, file }]));
}

/** The files that `model.safetensors.index.json` names, each once. Throws FileFormatError for one that is no file name. */
export async function readShards(directory: Directory): Promise<string[]> {
  const shards = new Set(Object.values((await readJson(directory, INDEX_FILE, INDEX)).weight_map));
  for (const shard of shards) checkFileName(shard, directory.name);
  return [...shards];
}

async function locateInShards(directory: Directory): Promise<Map<string, Located>> {
  const weightMap = Object.entries((await readJson(directory, INDEX_FILE, INDEX)).weight_map);
  const shards = new Map<string, Map<string, Located>>();
  for (const [, shard] of weightMap) {
    if (shards.has(shard)) continue;
    await checkShard(directory, shard);
    shards.set(shard, await locateIn(directory, shard));
  }
  return new Map(
    weightMap.map(([name, shard]) => {
      const entry = shards.get(shard)?.get(name);
      if (entry !== undefined) return [name, entry];
      throw new FileFormatError(
        `${INDEX_FILE} in ${directory.name} places ${JSON.stringify(name)} in ${shard}, which does not hold it`,
        "the index and the shards are of different models: fetch both again",
      );
    }),
  );
}

async function checkShard(directory: Directory, shard: string): Promise<void> {
  checkFileName(shard, directory.name);
  if ((await directory.size(shard)) !== undefined) return;
  throw new FileFormatError(
    `the shard ${shard}, named by ${INDEX_FILE}, is missing in ${directory.name}`,
    "download it into the same directory",
  );
}

/**
 * Writes a whole model directory: model.safetensors, then config.json, both or neither. Other files (a tokenizer's) stay.
 * `tensors` may give their data one at a time. Throws FileFormatError or ShapeError, leaving the directory as it was.
 */
export async function writeCheckpoint(
  directory: Directory,
  config: Readonly<Record<string, unknown>>,
  tensors: Iterable<TensorToWrite>,
): Promise<void> {
  await directory.writeTogether([
    { file: WEIGHTS_FILE, content: safetensorsContent(tensors) },
    { file: CONFIG_FILE, content: jsonBytes(config) },
  ]);
}
