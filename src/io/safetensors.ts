import { DtypeError, FileFormatError } from "../base/errors";
import { elements } from "../base/shape";
import type { Directory } from "./directory";
import { headerLength, parseHeader } from "./safetensors-header";
import type { SafetensorsHeader, TensorEntry } from "./safetensors-header";
import { decodeTensor } from "./stored-dtype";

/** A tensor in host memory: `data` has the product of `shape` elements, row-major. */
export interface HostTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array | Int32Array;
}

export interface FloatTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/**
 * Reads and checks a safetensors file's header, nothing else: what tensors there are and where. Throws FileFormatError
 * for anything that does not hold; no allocation exceeds the file's size.
 */
export async function readSafetensorsHeader(directory: Directory, file: string): Promise<SafetensorsHeader> {
  const where = `${file} in ${directory.name}`;
  const fileSize = await directory.size(file);
  const prefix = await directory.read(file, 0, Math.min(8, fileSize ?? 8));
  const size = fileSize ?? prefix.length;
  const length = headerLength(prefix, size, where);
  return parseHeader(await directory.read(file, 8, 8 + length), size, where);
}

/** Name, element type, shape and byte range of every tensor in a safetensors file. Throws as readSafetensorsHeader. */
export async function readHeader(directory: Directory, file: string): Promise<ReadonlyMap<string, TensorEntry>> {
  return (await readSafetensorsHeader(directory, file)).tensors;
}

/**
 * One tensor's elements, read from its byte range alone: f32 for F32, F16, BF16 and F64, i32 for I32, I64, U8 and BOOL.
 * Throws DtypeError for other types and for I64 beyond 32 bits, FileFormatError where the file has changed.
 */
export async function readTensor(
  directory: Directory,
  file: string,
  name: string,
  entry: TensorEntry,
): Promise<Float32Array | Int32Array> {
  const bytes = await directory.read(file, entry.start, entry.end);
  return decodeTensor(entry.dtype, bytes, describe(name, file, directory));
}

/** As readTensor, for a tensor that must hold floats: DtypeError otherwise. */
export async function readFloats(
  directory: Directory,
  file: string,
  name: string,
  entry: TensorEntry,
): Promise<Float32Array> {
  const data = await readTensor(directory, file, name, entry);
  if (data instanceof Float32Array) return data;
  throw new DtypeError(
    `${describe(name, file, directory)} is stored as ${entry.dtype}, where floats are needed`,
    "convert it to F32, F16 or BF16",
  );
}

/** Elements [first, end) of a tensor, row-major. */
export interface ElementRange {
  readonly first: number;
  readonly end: number;
}

/** Where a part of a tensor lies, as a row of its own. Throws FileFormatError for elements that it does not have. */
export function partOf(entry: TensorEntry, name: string, { first, end }: ElementRange): TensorEntry {
  const count = elements(entry.shape);
  if (!(first >= 0 && first <= end && end <= count)) {
    throw new FileFormatError(
      `elements ${first} to ${end} of ${JSON.stringify(name.slice(0, 200))} are asked for, which has ${count}`,
      "check that config.json belongs to the weights",
    );
  }
  const bytes = count === 0 ? 0 : (entry.end - entry.start) / count;
  const start = entry.start + first * bytes;
  return { dtype: entry.dtype, shape: [end - first], start, end: start + (end - first) * bytes };
}

/** Every tensor of a file that fits in memory, by name, in the header's order. Throws as readTensor. */
export async function readSafetensors(directory: Directory, file: string): Promise<Map<string, HostTensor>> {
  const tensors = new Map<string, HostTensor>();
  for (const [name, entry] of await readHeader(directory, file)) {
    tensors.set(name, { shape: entry.shape, data: await readTensor(directory, file, name, entry) });
  }
  return tensors;
}

/** As readSafetensors, for a file that must hold floats only. */
export async function readFloatTensors(directory: Directory, file: string): Promise<Map<string, FloatTensor>> {
  const tensors = new Map<string, FloatTensor>();
  for (const [name, entry] of await readHeader(directory, file)) {
    tensors.set(name, { shape: entry.shape, data: await readFloats(directory, file, name, entry) });
  }
  return tensors;
}

/** The entry of a name. Throws FileFormatError that names some of those that exist. */
export function entryOf<T>(tensors: ReadonlyMap<string, T>, name: string, where: string): T {
  const entry = tensors.get(name);
  if (entry !== undefined) return entry;
  const last = name.slice(name.lastIndexOf(".") + 1);
  const alike = [...tensors.keys()].filter((other) => other.endsWith(last));
  const examples = (alike.length > 0 ? alike : [...tensors.keys()]).slice(0, 6);
  throw new FileFormatError(
    `no tensor ${JSON.stringify(name)} in ${where}`,
    tensors.size === 0
      ? "it holds no tensors"
      : `it holds ${examples.map((other) => JSON.stringify(other)).join(", ")}`,
  );
}

function describe(name: string, file: string, directory: Directory): string {
  return `${JSON.stringify(name.slice(0, 200))} in ${file} in ${directory.name}`;
}
