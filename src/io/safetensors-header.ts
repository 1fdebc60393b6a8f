import * as v from "valibot";
import { FileFormatError } from "../base/errors";
import { checkSchema, parseJson } from "./json";
import { storedBytes } from "./stored-dtype";

/** Type, shape and position of a tensor in a safetensors file. */
export interface TensorEntry {
  /** Element type as in the file: "F32", "BF16", ... */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Byte range [start, end) in the file. */
  readonly start: number;
  readonly end: number;
}

/** Header of a safetensors file. */
export interface SafetensorsHeader {
  /** By name, in the order of the header. A Map, because an object treats names such as "__proto__" specially. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly metadata: ReadonlyMap<string, string>;
}

/** Longer headers are refused, as in the reference implementation. */
export const MAXIMUM_HEADER_BYTES = 100_000_000;

const SIZE = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const ENTRY = v.object({ dtype: v.string(), shape: v.array(SIZE), data_offsets: v.strictTuple([SIZE, SIZE]) });
const METADATA = v.record(v.string(), v.string());

/**
 * Length of the JSON header in bytes, from the first 8 bytes of a file (unsigned, little-endian).
 * @throws FileFormatError if the header does not fit in the file, before memory of that length is allocated.
 */
export function headerLength(prefix: Uint8Array, fileSize: number, where: string): number {
  if (prefix.length < 8 || fileSize < 8)
    throw damaged(`${where} has ${fileSize} bytes, too few for a safetensors file.`);
  const length = new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true);
  if (length > BigInt(MAXIMUM_HEADER_BYTES) || length > BigInt(fileSize - 8)) {
    const most = Math.min(MAXIMUM_HEADER_BYTES, fileSize - 8);
    throw damaged(`${where} states a header of ${length} bytes, but at most ${most} are possible.`);
  }
  return Number(length);
}

/**
 * Parses the JSON header of a file of `fileSize` bytes. It must have known element types, integer sizes, and byte ranges
 * that match the shapes and cover the rest of the file without gap or overlap.
 * @throws FileFormatError naming the tensor and what is wrong with it.
 */
export function parseHeader(json: Uint8Array, fileSize: number, where: string): SafetensorsHeader {
  if (json[0] !== 0x7b) throw damaged(`The header of ${where} does not begin with "{".`);
  // JSON that begins with "{" is an object.
  const header = parseJson(json, `The header of ${where}`) as Record<string, unknown>;
  const dataStart = 8 + json.length;
  const tensors = new Map<string, TensorEntry>();
  let metadata = new Map<string, string>();
  for (const [name, value] of Object.entries(header)) {
    if (name === "__metadata__") metadata = parseMetadata(value, where);
    else tensors.set(name, parseEntry(value, `${quote(name)} in ${where}`, dataStart));
  }
  checkCoverage(tensors, dataStart, fileSize, where);
  return { tensors, metadata };
}

function parseMetadata(value: unknown, where: string): Map<string, string> {
  return new Map(Object.entries(checkSchema(METADATA, value, `__metadata__ in ${where}`)));
}

function parseEntry(value: unknown, what: string, dataStart: number): TensorEntry {
  const { dtype, shape, data_offsets } = checkSchema(ENTRY, value, what);
  const elementBytes = storedBytes(dtype);
  if (elementBytes === undefined) throw damaged(`${what} has the unknown element type ${quote(dtype)}.`);
  const bytes = byteCount(shape, elementBytes);
  const [start, end] = data_offsets;
  if (bytes === undefined) throw damaged(`${what} with the shape [${brief(shape)}] has more than 2^53 bytes.`);
  if (end - start !== bytes) {
    throw damaged(`${what} is ${dtype} [${brief(shape)}], ${bytes} bytes, but its range has ${end - start}.`);
  }
  return { dtype, shape: shape.map((size) => size + 0), start: dataStart + start, end: dataStart + end };
}

/** Size of a tensor in bytes; undefined from 2^53 bytes on, which a double cannot count exactly. */
function byteCount(shape: readonly number[], elementBytes: number): number | undefined {
  let bytes = elementBytes;
  for (const size of shape) {
    bytes *= size;
    if (!Number.isSafeInteger(bytes)) return undefined;
  }
  return bytes;
}

function checkCoverage(
  tensors: ReadonlyMap<string, TensorEntry>,
  dataStart: number,
  fileSize: number,
  where: string,
): void {
  const ranges = [...tensors].sort(([, a], [, b]) => a.start - b.start || a.end - b.end);
  let offset = dataStart;
  for (const [name, { start, end }] of ranges) {
    if (start !== offset) {
      const rule = start < offset ? "overlaps the tensor before it" : "leaves a gap before it";
      throw damaged(`${quote(name)} in ${where} ${rule}: it starts at byte ${start}, not ${offset}.`);
    }
    offset = end;
  }
  if (offset !== fileSize) throw damaged(`${where} has ${fileSize} bytes, but its header describes ${offset}.`);
}

function damaged(fact: string): FileFormatError {
  return new FileFormatError(
    fact,
    "The file is damaged, truncated or not a safetensors file: download or save it again.",
  );
}

/** A name from a file, shortened and escaped for an error message. */
function quote(name: string): string {
  return JSON.stringify(name.length > 120 ? `${name.slice(0, 120)}...` : name);
}

/** A shape, shortened for an error message. */
function brief(shape: readonly number[]): string {
  return shape.length > 8 ? `${shape.slice(0, 8).join(", ")}, ...` : shape.join(", ");
}
