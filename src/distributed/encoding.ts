import { decodeBf16, encodeBf16 } from "../base/float";

/** How gradients are sent: f32 exactly, bf16 in half the bytes, or 8-bit integers with a scale for each block of 256. */
export type WireEncoding = "f32" | "bf16" | "int8";

/** Every encoding, by its number in messages. */
export const WIRE_ENCODINGS: readonly WireEncoding[] = ["f32", "bf16", "int8"];

/** Numbers of an int8 block, which share a scale. */
const BLOCK = 256;
/** Largest magnitude of an 8-bit integer that has an opposite. */
const LARGEST = 127;

/** Bytes of so many numbers. */
export function encodedBytes(count: number, encoding: WireEncoding): number {
  if (encoding === "f32") return 4 * count;
  return encoding === "bf16" ? 2 * count : 4 * Math.ceil(count / BLOCK) + count;
}

/** Numbers as they are sent. f32 keeps their bits; int8 needs finite ones. */
export function encode(values: Float32Array, encoding: WireEncoding): Uint8Array {
  if (encoding === "f32") return new Uint8Array(Float32Array.from(values).buffer);
  return encoding === "bf16" ? new Uint8Array(encodeBf16(values).buffer) : encodeInt8(values);
}

/** So many numbers from bytes that `encode` made. */
export function decode(bytes: Uint8Array, count: number, encoding: WireEncoding): Float32Array {
  // A view of larger elements needs a buffer that begins at a multiple of their size.
  const aligned = new Uint8Array(bytes);
  if (encoding === "f32") return new Float32Array(aligned.buffer, 0, count);
  return encoding === "bf16" ? decodeBf16(new Uint16Array(aligned.buffer, 0, count)) : decodeInt8(aligned, count);
}

function encodeInt8(values: Float32Array): Uint8Array {
  const blocks = Math.ceil(values.length / BLOCK);
  const bytes = new Uint8Array(encodedBytes(values.length, "int8"));
  const scales = new Float32Array(bytes.buffer, 0, blocks);
  const integers = new Int8Array(bytes.buffer, 4 * blocks);
  for (let block = 0; block < blocks; block++) {
    const start = block * BLOCK;
    const end = Math.min(start + BLOCK, values.length);
    let largest = 0;
    for (let i = start; i < end; i++) largest = Math.max(largest, Math.abs(values[i]!));
    scales[block] = largest / LARGEST;
    const scale = scales[block]!;
    // The scale is rounded to f32, so that a quotient may be a little more than 127.
    for (let i = start; i < end; i++) {
      integers[i] = scale > 0 ? Math.max(-LARGEST, Math.min(LARGEST, Math.round(values[i]! / scale))) : 0;
    }
  }
  return bytes;
}

function decodeInt8(bytes: Uint8Array, count: number): Float32Array {
  const blocks = Math.ceil(count / BLOCK);
  const scales = new Float32Array(bytes.buffer, 0, blocks);
  const integers = new Int8Array(bytes.buffer, 4 * blocks, count);
  return Float32Array.from(integers, (value, i) => value * scales[Math.floor(i / BLOCK)]!);
}

/**
 * Encodes one sequence of vectors after the other. What 8 bits leave out of a vector is added to the next one (error feedback, Seide
 * et al. 2014; Karimireddy et al. 2019), so that it is late and not lost.
 */
export class Encoder {
  #error = new Float32Array();
  #next = new Float32Array();

  constructor(readonly encoding: WireEncoding) {}

  /** The next vector as it is sent. It is the same for the same vector until `commit`. */
  encode(values: Float32Array): Uint8Array {
    if (this.encoding !== "int8") return encode(values, this.encoding);
    const error = this.#error;
    // A freeze shortens the vector, and its elements are others then.
    const corrected = error.length === values.length ? values.map((value, i) => value + error[i]!) : values;
    const bytes = encode(corrected, "int8");
    const sent = decode(bytes, values.length, "int8");
    this.#next = corrected.map((value, i) => value - sent[i]!);
    return bytes;
  }

  /** Called once the others have used the vector. */
  commit(): void {
    this.#error = this.#next;
  }
}
