import * as v from "valibot";
import { FileFormatError } from "../base/errors";
import { checkFileName } from "./directory";
import type { Directory, NewFile } from "./directory";
import { readJson } from "./json";
import { entryOf, partOf, readFloats, readHeader } from "./safetensors";
import type { ElementRange } from "./safetensors";
import { safetensorsContent } from "./safetensors-write";
import type { TensorToWrite } from "./safetensors-write";
import type { TensorEntry } from "./safetensors-header";
import { unwrapped } from "./wrappers";

export const CONFIG_FILE = "config.json";
export const WEIGHTS_FILE = "model.safetensors";
export const INDEX_FILE = "model.safetensors.index.json";

/** Keys of every model. Each family checks its own. Unknown keys are kept. */
const CONFIG = v.looseObject({
  model_type: v.optional(v.string()),
  architectures: v.nullish(v.array(v.string())),
  // Only the number of labels matters to a model, so that their names and ids may be whatever a tool has written.
  id2label: v.nullish(v.record(v.string(), v.unknown())),
});

const INDEX = v.looseObject({ weight_map: v.record(v.string(), v.string()) });

/** Type and size of a tensor in a file. */
export interface TensorInfo {
  /** Element type as in the file: "F32", "BF16", ... */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Bytes in the file. */
  readonly bytes: number;
}

/** A Hugging Face model directory: its configuration, and tensors that are read one at a time. */
export interface Checkpoint {
  readonly directory: Directory;
  /** The parsed config.json. Only keys that every model has are checked. */
  readonly config: Readonly<Record<string, unknown>>;
  /** What wrappers had put into the tensors' names and was taken off: "_orig_mod.", "module."; usually empty. */
  readonly removed: readonly string[];
  /** Names of the tensors. */
  names(): string[];
  has(name: string): boolean;
  /** @throws FileFormatError for an unknown name. */
  info(name: string): TensorInfo;
  /**
   * Elements of a tensor as f32, row-major; all of them by default.
   * @throws FileFormatError for an unknown name or elements that do not exist, DtypeError if they are not floats.
   */
  read(name: string, part?: ElementRange): Promise<Float32Array>;
  /** Bytes of a tensor as stored in the file, all of them by default. @throws FileFormatError as `read`. */
  bytes(name: string, part?: ElementRange): Promise<Uint8Array>;
}

interface Located extends TensorEntry {
  readonly file: string;
  /** Its name there. */
  readonly name: string;
}

/**
 * Opens `config.json` and `model.safetensors`, or the shards that `model.safetensors.index.json` lists. Reads only
 * headers.
 * @throws FileFormatError for a missing, damaged or inconsistent file, and for a shard whose name is not a file name.
 */
export async function openCheckpoint(directory: Directory): Promise<Checkpoint> {
  const config = await readConfig(directory);
  const { tensors, removed } = unwrapped(await locate(directory));
  const find = (name: string): Located => entryOf(tensors, name, `the checkpoint ${directory.name}`);
  return {
    directory,
    config,
    removed,
    names: () => [...tensors.keys()],
    has: (name) => tensors.has(name),
    info: (name) => {
      const { dtype, shape, start, end } = find(name);
      return { dtype, shape, bytes: end - start };
    },
    read: async (name, part) => {
      const entry = find(name);
      return readFloats(directory, entry.file, entry.name, part ? partOf(entry, name, part) : entry);
    },
    bytes: async (name, part) => {
      const entry = find(name);
      const asBytes = { ...entry, dtype: "U8", shape: [entry.end - entry.start] };
      const { start, end } = part ? partOf(asBytes, name, part) : entry;
      return directory.read(entry.file, start, end);
    },
  };
}

/** Reads config.json. @throws FileFormatError if it is missing or not a JSON object. */
export async function readConfig(directory: Directory): Promise<Record<string, unknown>> {
  return readJson(directory, CONFIG_FILE, CONFIG);
}

async function locate(directory: Directory): Promise<Map<string, Located>> {
  if ((await directory.size(WEIGHTS_FILE)) !== undefined) return locateIn(directory, WEIGHTS_FILE);
  if ((await directory.size(INDEX_FILE)) !== undefined) return locateInShards(directory);
  const files = await directory.list();
  const torch = files.find((file) => file.startsWith("pytorch_model"));
  throw new FileFormatError(
    `There is neither ${WEIGHTS_FILE} nor ${INDEX_FILE} in ${directory.name}.`,
    torch === undefined
      ? "Check the path, or download the model's safetensors files."
      : `${torch} is a pickle, which is never loaded: save the model with safe_serialization=True.`,
  );
}

async function locateIn(directory: Directory, file: string): Promise<Map<string, Located>> {
  const header = await readHeader(directory, file);
  return new Map([...header].map(([name, entry]) => [name, { ...entry, file, name }]));
}

/** Distinct shards of `model.safetensors.index.json`. @throws FileFormatError for a name that is not a file name. */
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
        `${INDEX_FILE} in ${directory.name} places ${JSON.stringify(name)} in ${shard}, which does not contain it.`,
        "The index and the shards belong to different models: download both again.",
      );
    }),
  );
}

async function checkShard(directory: Directory, shard: string): Promise<void> {
  checkFileName(shard, directory.name);
  if ((await directory.size(shard)) !== undefined) return;
  throw new FileFormatError(
    `The shard ${shard}, which ${INDEX_FILE} names, is missing in ${directory.name}.`,
    "Download it into the same directory.",
  );
}

/**
 * Writes the files of a model: model.safetensors, then config.json, which names the type of the weights, together or not at all. Other
 * files stay. Tensors whose data is a function are read one at a time.
 * @param beside further files, such as those of a tokenizer.
 * @param dtype torch's name of the weights' type. Default "float32".
 * @throws FileFormatError or ShapeError; the directory is then as it was.
 */
export async function writeCheckpoint(
  directory: Directory,
  config: Readonly<Record<string, unknown>>,
  tensors: Iterable<TensorToWrite>,
  beside: readonly NewFile[] = [],
  dtype = "float32",
): Promise<void> {
  const { configBytes } = await import("./config-bytes");
  await directory.writeTogether([
    ...beside,
    { file: WEIGHTS_FILE, content: safetensorsContent(tensors) },
    { file: CONFIG_FILE, content: configBytes(withDtype(config, dtype)) },
  ]);
}

/** A configuration with the type of the weights, to which transformers converts them when it loads them. */
function withDtype(config: Readonly<Record<string, unknown>>, dtype: string): Readonly<Record<string, unknown>> {
  // The name of older releases.
  const older = Object.hasOwn(config, "torch_dtype") ? { torch_dtype: dtype } : {};
  return { ...config, dtype, ...older };
}
