import { DtypeError, FileFormatError } from "../base/errors";
import { elements } from "../base/shape";
import type { Directory } from "./directory";
import { headerLength, parseHeader } from "./safetensors-header";
import type { SafetensorsHeader, TensorEntry } from "./safetensors-header";
import { decodeTensor } from "./stored-dtype";

/** A tensor in host memory. `data` is row-major. */
export interface HostTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array | Int32Array;
}

/** A tensor of f32 in host memory. `data` is row-major. */
export interface FloatTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/**
 * Reads and checks the header of a safetensors file. No allocation exceeds the size of the file.
 * @throws FileFormatError for a damaged or inconsistent header.
 */
export async function readSafetensorsHeader(directory: Directory, file: string): Promise<SafetensorsHeader> {
  const where = `${file} in ${directory.name}`;
  const fileSize = await directory.size(file);
  const prefix = await directory.read(file, 0, Math.min(8, fileSize ?? 8));
  const size = fileSize ?? prefix.length;
  const length = headerLength(prefix, size, where);
  return parseHeader(await directory.read(file, 8, 8 + length), size, where);
}

/** Entries of all tensors in a safetensors file, by name. @throws as `readSafetensorsHeader`. */
export async function readHeader(directory: Directory, file: string): Promise<ReadonlyMap<string, TensorEntry>> {
  return (await readSafetensorsHeader(directory, file)).tensors;
}

/**
 * Elements of a tensor, as f32 for F32, F16, BF16 and F64, as i32 for I32, I64, U8 and BOOL.
 * @throws DtypeError for other types and for an I64 beyond 32 bits, FileFormatError if the file is shorter than it was.
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

/** Elements of a tensor of floats, as f32. @throws as `readTensor`, and DtypeError for integers. */
export async function readFloats(
  directory: Directory,
  file: string,
  name: string,
  entry: TensorEntry,
): Promise<Float32Array> {
  const data = await readTensor(directory, file, name, entry);
  if (data instanceof Float32Array) return data;
  throw new DtypeError(
    `${describe(name, file, directory)} is stored as ${entry.dtype}, but must contain floats.`,
    "Convert it to F32, F16 or BF16.",
  );
}

/** Elements [first, end) of a tensor, row-major. */
export interface ElementRange {
  readonly first: number;
  readonly end: number;
}

/** The entry of some elements of a tensor, with the shape [count]. @throws FileFormatError if they do not exist. */
export function partOf(entry: TensorEntry, name: string, { first, end }: ElementRange): TensorEntry {
  const count = elements(entry.shape);
  if (!(first >= 0 && first <= end && end <= count)) {
    throw new FileFormatError(
      `Elements ${first} to ${end} of ${JSON.stringify(name.slice(0, 200))} were requested; it has ${count}.`,
      "Check that config.json belongs to the weights.",
    );
  }
  const bytes = count === 0 ? 0 : (entry.end - entry.start) / count;
  const start = entry.start + first * bytes;
  return { dtype: entry.dtype, shape: [end - first], start, end: start + (end - first) * bytes };
}

/** Reads all tensors of a file, by name, in the order of the header. @throws as `readTensor`. */
export async function readSafetensors(directory: Directory, file: string): Promise<Map<string, HostTensor>> {
  const tensors = new Map<string, HostTensor>();
  for (const [name, entry] of await readHeader(directory, file)) {
    tensors.set(name, { shape: entry.shape, data: await readTensor(directory, file, name, entry) });
  }
  return tensors;
}

/** Reads all tensors of a file of floats, by name, in the order of the header. @throws as `readFloats`. */
export async function readFloatTensors(directory: Directory, file: string): Promise<Map<string, FloatTensor>> {
  const tensors = new Map<string, FloatTensor>();
  for (const [name, entry] of await readHeader(directory, file)) {
    tensors.set(name, { shape: entry.shape, data: await readFloats(directory, file, name, entry) });
  }
  return tensors;
}

/** The entry of a tensor in a map by names. @throws FileFormatError that lists some of the existing names. */
export function entryOf<T>(tensors: ReadonlyMap<string, T>, name: string, where: string): T {
  const entry = tensors.get(name);
  if (entry !== undefined) return entry;
  const lastPart = name.slice(name.lastIndexOf(".") + 1);
  const similar = [...tensors.keys()].filter((other) => other.endsWith(lastPart));
  const examples = (similar.length > 0 ? similar : [...tensors.keys()]).slice(0, 6);
  throw new FileFormatError(
    `There is no tensor ${JSON.stringify(name)} in ${where}.`,
    tensors.size === 0
      ? "It contains no tensors."
      : `It contains ${examples.map((other) => JSON.stringify(other)).join(", ")}.`,
  );
}

function describe(name: string, file: string, directory: Directory): string {
  return `${JSON.stringify(name.slice(0, 200))} in ${file} in ${directory.name}`;
}
