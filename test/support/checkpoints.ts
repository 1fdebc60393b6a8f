import { writeCheckpoint } from "../../src/io/checkpoint";
import { contentBytes, memoryDirectory } from "../../src/io/directory";
import type { Directory } from "../../src/io/directory";
import { jsonBytes } from "../../src/io/json";
import { readHeader } from "../../src/io/safetensors";
import { safetensorsContent } from "../../src/io/safetensors-write";
import type { TensorToWrite } from "../../src/io/safetensors-write";
import { createModel } from "../../src/model/families";
import { elements } from "../../src/base/shape";
import { Random } from "../../src/base/random";

/** The tensors of a checkpoint with this configuration, of random values. */
export function randomTensors(config: Readonly<Record<string, unknown>>): (TensorToWrite & { data: Float32Array })[] {
  const random = new Random(1);
  return createModel(config).parameters.map(({ name, shape }) => {
    const data = Float32Array.from({ length: elements(shape) }, () => random.uniform() - 0.4);
    return { name, shape, data };
  });
}

/** A model directory in memory with one file of tensors. */
export async function wholeCheckpoint(
  config: Readonly<Record<string, unknown>>,
  tensors: readonly TensorToWrite[],
): Promise<Directory> {
  const directory = memoryDirectory("whole");
  await writeCheckpoint(directory, config, tensors);
  return directory;
}

/** The files of a model directory with two shards of tensors: the first half of them, and the second. */
export async function shardedFiles(
  config: Readonly<Record<string, unknown>>,
  tensors: readonly TensorToWrite[],
): Promise<Record<string, Uint8Array>> {
  const half = Math.ceil(tensors.length / 2);
  const shards = { "first.safetensors": tensors.slice(0, half), "second.safetensors": tensors.slice(half) };
  const files: Record<string, Uint8Array> = { "config.json": jsonBytes(config) };
  const weightMap: Record<string, string> = {};
  for (const [file, shard] of Object.entries(shards)) {
    files[file] = await contentBytes(safetensorsContent(shard));
    for (const { name } of shard) weightMap[name] = file;
  }
  files["model.safetensors.index.json"] = jsonBytes({ weight_map: weightMap });
  return files;
}

/** The directory, which calls and awaits `onRead` before each read. */
export function observed(
  directory: Directory,
  onRead: (file: string, start: number | undefined, end: number | undefined) => void | Promise<void>,
): Directory {
  return {
    ...directory,
    read: async (file, start, end) => {
      await onRead(file, start, end);
      return directory.read(file, start, end);
    },
  };
}

/** A tensor of any element type, as bytes. */
export interface RawTensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** The bytes of a safetensors file with these tensors, in their order. */
export function rawSafetensors(tensors: ReadonlyMap<string, RawTensor>): Uint8Array {
  let end = 0;
  const entries = [...tensors].map(([name, { dtype, shape, bytes }]) => {
    const data_offsets = [end, (end += bytes.length)];
    return [name, { dtype, shape, data_offsets }];
  });
  const header = new TextEncoder().encode(JSON.stringify(Object.fromEntries(entries)));
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(header.length), true);
  return Buffer.concat([length, header, ...[...tensors.values()].map(({ bytes }) => bytes)]);
}

/** The tensors of a safetensors file by name, as bytes. */
export async function readRaw(directory: Directory, file: string): Promise<Map<string, RawTensor>> {
  const tensors = new Map<string, RawTensor>();
  for (const [name, { dtype, shape, start, end }] of await readHeader(directory, file)) {
    tensors.set(name, { dtype, shape, bytes: await directory.read(file, start, end) });
  }
  return tensors;
}
