import { decodeBf16, decodeF16, encodeBf16, encodeF16 } from "./float";

/** Format in which a frozen weight is stored: 32, 16, 8 or 4 bits an element. */
export type WeightFormat = "f32" | "f16" | "bf16" | "int8" | "nf4";

/** Every weight format, from the most to the fewest bits. */
export const WEIGHT_FORMATS: readonly WeightFormat[] = ["f32", "f16", "bf16", "int8", "nf4"];

/** The magnitude from which a format rounds a number to infinity. The scales of int8 and nf4 are f32 and hold every number. */
export const OVERFLOW: Readonly<Record<WeightFormat, number>> = {
  f32: Infinity,
  f16: 65520,
  bf16: (2 - 2 ** -8) * 2 ** 127,
  int8: Infinity,
  nf4: Infinity,
};

/** Number of neighbouring elements of a row that share a scale (QLoRA, Dettmers et al. 2023, section 3). */
export const BLOCK = 64;

/** The values of NormalFloat4 (QLoRA, appendix E): quantiles of the normal distribution in [-1, 1], with an exact 0. */
export const NF4: readonly number[] = [
  -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
  -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
  0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
];

/** Size of a stored row in 32-bit words. */
export interface RowWords {
  /** Words of the codes alone. */
  readonly codes: number;
  /** Words of codes and scales together. */
  readonly total: number;
}

/**
 * Size of a row of `columns` elements in a quantised format. The codes come first: four (int8) or eight (nf4) a word.
 * An int8 row then has the scale of each block as an f32. An nf4 row has its scales quantised a second time: a byte for
 * each block, which is the code of its scale, then two f32, the smallest scale and the step between two codes.
 */
export function quantisedRow(format: "int8" | "nf4", columns: number): RowWords {
  const blocks = Math.ceil(columns / BLOCK);
  const codes = Math.ceil(columns / (format === "int8" ? 4 : 8));
  return { codes, total: codes + (format === "int8" ? blocks : Math.ceil(blocks / 4) + 2) };
}

/** Bytes of a stored row of `columns` elements. */
export function rowBytes(format: WeightFormat, columns: number): number {
  if (format === "int8" || format === "nf4") return quantisedRow(format, columns).total * 4;
  return columns * (format === "f32" ? 4 : 2);
}

/** The stored form of a matrix [rows, columns], whose values must be finite. */
export function encodeWeight(data: Float32Array, columns: number, format: WeightFormat): Float32Array | Uint32Array {
  if (format === "f32") return data;
  if (format === "f16") return words(encodeF16(data));
  if (format === "bf16") return words(encodeBf16(data));
  const { total } = quantisedRow(format, columns);
  const rows = data.length / columns;
  const stored = new Uint32Array(rows * total);
  const encode = format === "int8" ? encodeInt8 : encodeNf4;
  for (let row = 0; row < rows; row++) {
    encode(data.subarray(row * columns, (row + 1) * columns), stored.subarray(row * total, (row + 1) * total));
  }
  return stored;
}

/** The `count` values of a stored matrix [rows, columns]. */
export function decodeWeight(stored: Uint32Array, columns: number, format: WeightFormat, count: number): Float32Array {
  if (format === "f32") return new Float32Array(stored.buffer, stored.byteOffset, count);
  if (format === "f16" || format === "bf16") {
    const codes = new Uint16Array(stored.buffer, stored.byteOffset, count);
    return format === "f16" ? decodeF16(codes) : decodeBf16(codes);
  }
  const { total } = quantisedRow(format, columns);
  const data = new Float32Array(count);
  const decode = format === "int8" ? decodeInt8 : decodeNf4;
  for (let row = 0; row * columns < count; row++) {
    decode(stored.subarray(row * total, (row + 1) * total), data.subarray(row * columns, (row + 1) * columns));
  }
  return data;
}

/** 16-bit codes as 32-bit words, two a word, the first in the lower half. */
function words(codes: Uint16Array): Uint32Array {
  const padded = new Uint16Array(Math.ceil(codes.length / 2) * 2);
  padded.set(codes);
  return new Uint32Array(padded.buffer);
}

/** The largest magnitude of elements [start, end). */
function maxMagnitude(values: Float32Array, start: number, end: number): number {
  let maximum = 0;
  for (let i = start; i < end; i++) maximum = Math.max(maximum, Math.abs(values[i]!));
  return maximum;
}

function encodeInt8(row: Float32Array, stored: Uint32Array): void {
  const { codes } = quantisedRow("int8", row.length);
  const bytes = new Int8Array(stored.buffer, stored.byteOffset, codes * 4);
  const scales = new Float32Array(stored.buffer, stored.byteOffset + codes * 4);
  for (let start = 0; start < row.length; start += BLOCK) {
    const end = Math.min(row.length, start + BLOCK);
    const scale = Math.fround(maxMagnitude(row, start, end) / 127);
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
  const { codes, total } = quantisedRow("nf4", row.length);
  const blocks = Math.ceil(row.length / BLOCK);
  const endOf = (block: number): number => Math.min(row.length, (block + 1) * BLOCK);
  const exactScales = Float32Array.from({ length: blocks }, (_, i) => maxMagnitude(row, i * BLOCK, endOf(i)));
  const smallest = exactScales.reduce((a, b) => Math.min(a, b), Infinity);
  const step = Math.fround((maxMagnitude(exactScales, 0, blocks) - smallest) / 255);
  const smallestAndStep = new Float32Array(stored.buffer, stored.byteOffset + (total - 2) * 4, 2);
  smallestAndStep.set([smallest, step]);
  const bytes = new Uint8Array(stored.buffer, stored.byteOffset, codes * 4);
  const scaleCodes = new Uint8Array(stored.buffer, stored.byteOffset + codes * 4);
  for (let block = 0; block < blocks; block++) {
    const code = step === 0 ? 0 : Math.round((exactScales[block]! - smallest) / step);
    scaleCodes[block] = code;
    const scale = smallest + step * code;
    for (let i = block * BLOCK; i < endOf(block); i++) {
      const nearest = scale === 0 ? NF4.indexOf(0) : nearestNf4(row[i]! / scale);
      bytes[i >> 1] = bytes[i >> 1]! | (nearest << (4 * (i & 1)));
    }
  }
}

function decodeNf4(stored: Uint32Array, row: Float32Array): void {
  const { codes, total } = quantisedRow("nf4", row.length);
  const [smallest = 0, step = 0] = new Float32Array(stored.buffer, stored.byteOffset + (total - 2) * 4, 2);
  const scaleCodes = new Uint8Array(stored.buffer, stored.byteOffset + codes * 4);
  for (let i = 0; i < row.length; i++) {
    const code = (stored[i >> 3]! >>> (4 * (i & 7))) & 15;
    row[i] = NF4[code]! * (smallest + step * scaleCodes[Math.floor(i / BLOCK)]!);
  }
}

/** Midpoints between neighbouring NF4 values: values above bound i are encoded as i + 1 or more. */
const BOUNDS = Float64Array.from(NF4.slice(1), (value, i) => (value + NF4[i]!) / 2);

/** The code of the NF4 value nearest to `value`, by binary search: four comparisons for sixteen codes. */
function nearestNf4(value: number): number {
  let code = 8 * Number(value > BOUNDS[7]!);
  code += 4 * Number(value > BOUNDS[code + 3]!);
  code += 2 * Number(value > BOUNDS[code + 1]!);
  return code + Number(value > BOUNDS[code]!);
}
