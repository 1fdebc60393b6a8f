import * as v from "valibot";
import { FileFormatError } from "../base/errors";
import { checkSchema, parseJson } from "./json";
import { storedBytes } from "./stored-dtype";

/** Where a tensor lies in a safetensors file. */
export interface TensorEntry {
  /** As the file names it: "F32", "BF16", ... */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Byte range [start, end) in the file. */
  readonly start: number;
  readonly end: number;
}

export interface SafetensorsHeader {
  /** In the order of the file's header. A Map, so that no name means anything to JavaScript. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly metadata: ReadonlyMap<string, string>;
}

/** Longer headers are refused, as by the reference implementation. */
export const MAXIMUM_HEADER_BYTES = 100_000_000;

const SIZE = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const ENTRY = v.object({ dtype: v.string(), shape: v.array(SIZE), data_offsets: v.strictTuple([SIZE, SIZE]) });
const METADATA = v.record(v.string(), v.string());

/**
 * Length of the JSON header, from a file's first 8 bytes (unsigned, little-endian). Throws FileFormatError where it does
 * not fit the file, before anything of that length is read.
 */
export function headerLength(prefix: Uint8Array, fileSize: number, where: string): number {
  if (prefix.length < 8 || fileSize < 8)
    throw damaged(`${where} has ${fileSize} bytes, too few for a safetensors file`);
  const length = new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true);
  if (length > BigInt(MAXIMUM_HEADER_BYTES) || length > BigInt(fileSize - 8)) {
    const allowed = Math.min(MAXIMUM_HEADER_BYTES, fileSize - 8);
    throw damaged(`${where} claims a header of ${length} bytes, but at most ${allowed} are possible`);
  }
  return Number(length);
}

/**
 * Parses and checks the JSON header of a file of `fileSize` bytes: known element types, whole sizes, byte ranges that
 * match shapes and cover the rest of the file without gap or overlap. Throws FileFormatError naming tensor and rule.
 */
export function parseHeader(json: Uint8Array, fileSize: number, where: string): SafetensorsHeader {
  if (json[0] !== 0x7b) throw damaged(`the header of ${where} does not begin with "{"`);
  const header = parseJson(json, `the header of ${where}`) as Record<string, unknown>;
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
  if (elementBytes === undefined) throw damaged(`${what} has an unknown element type ${quote(dtype)}`);
  const bytes = byteCount(shape, elementBytes);
  const [start, end] = data_offsets;
  if (bytes === undefined) throw damaged(`${what} has more than 2^53 bytes by its shape [${brief(shape)}]`);
  if (end - start !== bytes) {
    throw damaged(`${what} is ${dtype} [${brief(shape)}], ${bytes} bytes, but its range has ${end - start}`);
  }
  return { dtype, shape: shape.map((size) => size + 0), start: dataStart + start, end: dataStart + end };
}

/** Undefined where a partial product leaves the integers that doubles hold exactly. */
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
  let at = dataStart;
  for (const [name, { start, end }] of ranges) {
    if (start !== at) {
      const rule = start < at ? "overlaps the one before it" : "leaves a gap before it";
      throw damaged(`${quote(name)} in ${where} ${rule}: it starts at byte ${start}, not ${at}`);
    }
    at = end;
  }
  if (at !== fileSize) throw damaged(`${where} has ${fileSize} bytes, but its header describes ${at}`);
}

function damaged(fact: string): FileFormatError {
  return new FileFormatError(fact, "the file is damaged, truncated or no safetensors file: fetch or save it again");
}

/** A name from a file, safe to print. */
function quote(name: string): string {
  return JSON.stringify(name.length > 120 ? `${name.slice(0, 120)}...` : name);
}

function brief(shape: readonly number[]): string {
  return shape.length > 8 ? `${shape.slice(0, 8).join(", ")}, ...` : shape.join(", ");
}
