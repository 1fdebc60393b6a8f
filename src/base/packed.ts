import { decodeBf16, decodeF16, encodeBf16, encodeF16 } from "./float";

/** How a frozen weight may be stored: whole, in half, or in eighths and quarters of it. */
export type WeightFormat = "f32" | "f16" | "bf16" | "int8" | "nf4";

/** Every format, from the most to the fewest bits. */
export const WEIGHT_FORMATS: readonly WeightFormat[] = ["f32", "f16", "bf16", "int8", "nf4"];

/** Elements that share a scale (QLoRA, Dettmers et al. 2023, section 3). */
export const BLOCK = 64;

/** NormalFloat4 (QLoRA, appendix E): quantiles of the normal distribution, scaled to 1, with an exact 0. */
export const NF4: readonly number[] = [
  ...[-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635],
  ...[-0.18477343022823334, -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725],
  ...[0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1],
];

/** 32-bit words of a stored row: of its codes, and of codes and scales together. */
export interface RowWords {
  readonly codes: number;
  readonly all: number;
}

/**
 * Words of a row of `columns` elements in a quantised format. Codes come first, four (int8) or eight (nf4) a word. Then int8
 * has one f32 a block, its scale; nf4 a byte a block, the scale's code, and two f32, the least scale and a code's step: the
 * second quantisation, over the blocks of the row.
 */
export function quantisedRow(format: "int8" | "nf4", columns: number): RowWords {
  const blocks = Math.ceil(columns / BLOCK);
  const codes = Math.ceil(columns / (format === "int8" ? 4 : 8));
  return { codes, all: codes + (format === "int8" ? blocks : Math.ceil(blocks / 4) + 2) };
}

/** Bytes of a stored row. */
export function rowBytes(format: WeightFormat, columns: number): number {
  if (format === "int8" || format === "nf4") return quantisedRow(format, columns).all * 4;
  return columns * (format === "f32" ? 4 : 2);
}

/** A matrix [rows, columns] as it is stored. Values must be finite. */
export function encodeWeight(data: Float32Array, columns: number, format: WeightFormat): Float32Array | Uint32Array {
  if (format === "f32") return data;
  if (format === "f16") return words(encodeF16(data));
  if (format === "bf16") return words(encodeBf16(data));
  const { all } = quantisedRow(format, columns);
  const rows = data.length / columns;
  const stored = new Uint32Array(rows * all);
  const encode = format === "int8" ? encodeInt8 : encodeNf4;
  for (let row = 0; row < rows; row++) {
    encode(data.subarray(row * columns, (row + 1) * columns), stored.subarray(row * all, (row + 1) * all));
  }
  return stored;
}

/** What a stored matrix [rows, columns] stands for. */
export function decodeWeight(stored: Uint32Array, columns: number, format: WeightFormat, count: number): Float32Array {
  if (format === "f32") return new Float32Array(stored.buffer, stored.byteOffset, count);
  if (format === "f16" || format === "bf16") {
    const codes = new Uint16Array(stored.buffer, stored.byteOffset, count);
    return format === "f16" ? decodeF16(codes) : decodeBf16(codes);
  }
  const { all } = quantisedRow(format, columns);
  const data = new Float32Array(count);
  const decode = format === "int8" ? decodeInt8 : decodeNf4;
  for (let row = 0; row * columns < count; row++) {
    decode(stored.subarray(row * all, (row + 1) * all), data.subarray(row * columns, (row + 1) * columns));
  }
  return data;
}

/** Two codes a word, the first in its lower half. */
function words(codes: Uint16Array): Uint32Array {
  const padded = new Uint16Array(Math.ceil(codes.length / 2) * 2);
  padded.set(codes);
  return new Uint32Array(padded.buffer);
}

/** The largest magnitude of elements [start, end). */
function largest(values: Float32Array, start: number, end: number): number {
  let most = 0;
  for (let i = start; i < end; i++) most = Math.max(most, Math.abs(values[i]!));
  return most;
}

function encodeInt8(row: Float32Array, stored: Uint32Array): void {
  const { codes } = quantisedRow("int8", row.length);
  const bytes = new Int8Array(stored.buffer, stored.byteOffset, codes * 4);
  const scales = new Float32Array(stored.buffer, stored.byteOffset + codes * 4);
  for (let start = 0; start < row.length; start += BLOCK) {
    const end = Math.min(row.length, start + BLOCK);
    const scale = Math.fround(largest(row, start, end) / 127);
    scales[start / BLOCK] = scale;
    for (let i = start; i < end; i++) bytes[i] = scale === 0 ? 0 : Math.round(row[i]! / scale);
  }
}

function decodeInt8(stored: Uint32Array, row: Float32Array): void {
  const { codes } = quantisedRow("int8", row.length);
  const bytes = new Int8Array(stored.buffer, stored.byteOffset, codes * 4);
  const scales = new Float32Array(stored.buffer, stored.byteOffset + codes * 4);
  for (let i = 0; i < row.length; i++) row[i] = bytes[i]! * scales[Math.floor(i / BLOCK)]!;
}

function encodeNf4(row: Float32Array, stored: Uint32Array): void {
  const { codes, all } = quantisedRow("nf4", row.length);
  const blocks = Math.ceil(row.length / BLOCK);
  const endOf = (block: number): number => Math.min(row.length, (block + 1) * BLOCK);
  const wanted = Float32Array.from({ length: blocks }, (_, i) => largest(row, i * BLOCK, endOf(i)));
  const least = wanted.reduce((a, b) => Math.min(a, b), Infinity);
  const step = Math.fround((largest(wanted, 0, blocks) - least) / 255);
  const ends = new Float32Array(stored.buffer, stored.byteOffset + (all - 2) * 4, 2);
  ends.set([least, step]);
  const bytes = new Uint8Array(stored.buffer, stored.byteOffset, codes * 4);
  const scaleCodes = new Uint8Array(stored.buffer, stored.byteOffset + codes * 4);
  for (let block = 0; block < blocks; block++) {
    const code = step === 0 ? 0 : Math.round((wanted[block]! - least) / step);
    scaleCodes[block] = code;
    const scale = least + step * code;
    for (let i = block * BLOCK; i < endOf(block); i++) {
      const nearest = scale === 0 ? NF4.indexOf(0) : nearestNf4(row[i]! / scale);
      bytes[i >> 1] = bytes[i >> 1]! | (nearest << (4 * (i & 1)));
    }
  }
}

function decodeNf4(stored: Uint32Array, row: Float32Array): void {
  const { codes, all } = quantisedRow("nf4", row.length);
  const [least = 0, step = 0] = new Float32Array(stored.buffer, stored.byteOffset + (all - 2) * 4, 2);
  const scaleCodes = new Uint8Array(stored.buffer, stored.byteOffset + codes * 4);
  for (let i = 0; i < row.length; i++) {
    const code = (stored[i >> 3]! >>> (4 * (i & 7))) & 15;
    row[i] = NF4[code]! * (least + step * scaleCodes[Math.floor(i / BLOCK)]!);
  }
}

/** Half way between neighbouring values: above bound i lies code i + 1. */
const BOUNDS = Float64Array.from(NF4.slice(1), (value, i) => (value + NF4[i]!) / 2);

/** The number of bounds below a value, by halves: four comparisons for sixteen codes. */
function nearestNf4(value: number): number {
  let code = 8 * Number(value > BOUNDS[7]!);
  code += 4 * Number(value > BOUNDS[code + 3]!);
  code += 2 * Number(value > BOUNDS[code + 1]!);
  return code + Number(value > BOUNDS[code]!);
}
