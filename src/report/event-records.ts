import { joined } from "../base/joined";

/** CRC-32C (Castagnoli) of each byte, for its polynomial in reflected order. */
const CRC_OF_BYTE = /* @__PURE__ */ Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  return crc;
});

/** CRC-32C of bytes (RFC 3720, appendix B.4). */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ CRC_OF_BYTE[(crc ^ byte) & 255]!;
  return (crc ^ 0xffffffff) >>> 0;
}

/** The checksum that TFRecord files store: CRC-32C, rotated to the right by 15 bits, plus a constant. */
export function maskedCrc(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** Data as a record of a TFRecord file: u64 length, u32 checksum of the length, data, u32 checksum of the data. */
export function framed(data: Uint8Array): Uint8Array {
  const record = new Uint8Array(data.length + 16);
  const view = new DataView(record.buffer);
  view.setBigUint64(0, BigInt(data.length), true);
  view.setUint32(8, maskedCrc(record.subarray(0, 8)), true);
  record.set(data, 12);
  view.setUint32(12 + data.length, maskedCrc(data), true);
  return record;
}

/** A non-negative integer in groups of seven bits, the lowest first. */
function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  // Steps may have more than 32 bits, which the operators of bits cut.
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return Uint8Array.of(...bytes, rest);
}

/** How protocol buffers tell the length of a field's value. */
const WIRE = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;

const field = (number: number, wire: keyof typeof WIRE, value: Uint8Array): Uint8Array =>
  joined([varint(number * 8 + WIRE[wire]), value]);

/** A field of bytes. */
export const bytesField = (number: number, bytes: Uint8Array): Uint8Array =>
  field(number, "bytes", joined([varint(bytes.length), bytes]));

/** A field that is a message of fields. */
export const messageField = (number: number, ...fields: readonly Uint8Array[]): Uint8Array =>
  bytesField(number, joined(fields));

export const stringField = (number: number, text: string): Uint8Array =>
  bytesField(number, new TextEncoder().encode(text));

export const intField = (number: number, value: number): Uint8Array => field(number, "varint", varint(value));

export function floatField(number: number, value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setFloat32(0, value, true);
  return field(number, "fixed32", bytes);
}

export function doubleField(number: number, value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setFloat64(0, value, true);
  return field(number, "fixed64", bytes);
}
