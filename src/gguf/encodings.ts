import { DtypeError } from "../base/errors";
import { encodeF16 } from "../base/float";

/** How elements of a tensor are stored: 32 or 16 bits, or blocks of 32 in 8 bits with a scale. */
export type GgufFormat = "f32" | "f16" | "q8_0";
export const GGUF_FORMATS = ["f32", "f16", "q8_0"] as const satisfies readonly GgufFormat[];

/** ggml's numbers of the types. */
export const TENSOR_TYPES: Readonly<Record<GgufFormat, number>> = { f32: 0, f16: 1, q8_0: 8 };

/** Elements that share a scale in q8_0. */
export const BLOCK = 32;
const BLOCK_BYTES = BLOCK + 2;
const LARGEST_F16 = 65504;

/** Bytes of so many elements. */
export function storedSize(count: number, format: GgufFormat): number {
  if (format === "q8_0") return (count / BLOCK) * BLOCK_BYTES;
  return count * (format === "f16" ? 2 : 4);
}

/** @throws DtypeError naming a tensor with an element that 16 bits cannot hold. */
export function encodeTensor(name: string, values: Float32Array, format: GgufFormat): Uint8Array {
  if (format === "q8_0") return encodeQ8(name, values);
  if (format === "f32") return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  checkRange(
    name,
    values.find((value) => !(Math.abs(value) <= LARGEST_F16)),
  );
  const codes = encodeF16(values);
  return new Uint8Array(codes.buffer, codes.byteOffset, codes.byteLength);
}

/** ggml's Q8_0: of each 32 elements the largest magnitude becomes 127; halves are rounded away from zero, as C's roundf does. */
function encodeQ8(name: string, values: Float32Array): Uint8Array {
  const bytes = new Uint8Array(storedSize(values.length, "q8_0"));
  const view = new DataView(bytes.buffer);
  for (let first = 0, at = 0; first < values.length; first += BLOCK, at += BLOCK_BYTES) {
    const block = values.subarray(first, first + BLOCK);
    const largest = block.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const scale = Math.fround(largest / 127);
    checkRange(name, scale <= LARGEST_F16 ? undefined : largest);
    view.setUint16(at, encodeF16(Float32Array.of(scale))[0]!, true);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    block.forEach((value, i) => {
      const scaled = Math.fround(value * inverse);
      view.setInt8(at + 2 + i, Math.sign(scaled) * Math.floor(Math.abs(scaled) + 0.5));
    });
  }
  return bytes;
}

function checkRange(name: string, outside: number | undefined): void {
  if (outside === undefined) return;
  throw new DtypeError(`${name} has the element ${outside}, which 16 bits cannot hold.`, 'Use the format "f32".');
}
