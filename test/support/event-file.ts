import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

// A reader of TensorBoard's event files that shares nothing with the writer.

/** The fields of a protocol buffer's message, by number: each value as it comes, bytes for messages and texts. */
export type Fields = ReadonlyMap<number, readonly (number | Uint8Array)[]>;

export interface ReadEvent {
  readonly wallTime: number;
  readonly step: number;
  readonly version: string | undefined;
  /** Status of a session log. */
  readonly session: number | undefined;
  readonly values: readonly Fields[];
}

/** CRC-32C, bit by bit. */
function crcOf(bytes: Uint8Array): bigint {
  let crc = 0xffffffffn;
  for (const byte of bytes) {
    crc ^= BigInt(byte);
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1n) === 1n ? (crc >> 1n) ^ 0x82f63b78n : crc >> 1n;
  }
  return crc ^ 0xffffffffn;
}

function maskedCrcOf(bytes: Uint8Array): number {
  const crc = crcOf(bytes);
  const rotated = ((crc >> 15n) | (crc << 17n)) & 0xffffffffn;
  return Number((rotated + 0xa282ead8n) & 0xffffffffn);
}

/** The data of whole records, and how many bytes remain after them. Throws for a wrong checksum. */
export function recordsOf(bytes: Uint8Array): { readonly records: Uint8Array[]; readonly rest: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const records: Uint8Array[] = [];
  let at = 0;
  while (at + 12 <= bytes.length) {
    const length = Number(view.getBigUint64(at, true));
    if (view.getUint32(at + 8, true) !== maskedCrcOf(bytes.subarray(at, at + 8))) throw new Error(`length at ${at}`);
    if (at + 16 + length > bytes.length) break;
    const data = bytes.subarray(at + 12, at + 12 + length);
    if (view.getUint32(at + 12 + length, true) !== maskedCrcOf(data)) throw new Error(`data at ${at}`);
    records.push(data);
    at += 16 + length;
  }
  return { records, rest: bytes.length - at };
}

/** Reads a message. */
export function fieldsOf(message: Uint8Array): Fields {
  const view = new DataView(message.buffer, message.byteOffset, message.length);
  const fields = new Map<number, (number | Uint8Array)[]>();
  let at = 0;
  const varint = (): number => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = view.getUint8(at++);
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return Number(value);
    }
  };
  const bytes = (length: number): Uint8Array => {
    if (at + length > message.length) throw new Error("a field is longer than its message");
    return message.subarray(at, (at += length));
  };
  while (at < message.length) {
    const tag = varint();
    const read: Readonly<Record<number, () => number | Uint8Array>> = {
      0: varint,
      1: () => view.getFloat64((at += 8) - 8, true),
      2: () => bytes(varint()),
      5: () => view.getFloat32((at += 4) - 4, true),
    };
    const value = read[tag & 7]!();
    fields.set(tag >>> 3, [...(fields.get(tag >>> 3) ?? []), value]);
  }
  return fields;
}

/** The first value of a field. */
export const one = (fields: Fields, number: number): number | Uint8Array | undefined => fields.get(number)?.[0];
/** All values of a field of bytes. */
export const bytesOf = (fields: Fields, number: number): Uint8Array[] =>
  (fields.get(number) ?? []).map((value) => {
    if (typeof value === "number") throw new Error(`field ${number} is a number`);
    return value;
  });
/** The messages of a field. */
export const messages = (fields: Fields, number: number): Fields[] => bytesOf(fields, number).map(fieldsOf);
/** The texts of a field. */
export const texts = (fields: Fields, number: number): string[] =>
  bytesOf(fields, number).map((text) => new TextDecoder().decode(text));

function eventOf(record: Uint8Array): ReadEvent {
  const fields = fieldsOf(record);
  const session = messages(fields, 7)[0];
  return {
    wallTime: Number(one(fields, 1)),
    step: Number(one(fields, 2) ?? 0),
    version: texts(fields, 3)[0],
    session: session && Number(one(session, 1) ?? 0),
    values: messages(fields, 5).flatMap((summary) => messages(summary, 1)),
  };
}

/** The events of a file's whole records. */
export const eventsOf = (bytes: Uint8Array): ReadEvent[] => recordsOf(bytes).records.map(eventOf);

/** The tag of a summary's value. */
export const tagOf = (value: Fields): string => texts(value, 1)[0]!;

/**
 * The scalars of events by tag, then by step. As in TensorBoard, a session that starts purges what was there from its step on, but for
 * the first that starts at all.
 */
export function scalarsOf(events: readonly ReadEvent[]): Map<string, Map<number, number>> {
  const scalars = new Map<string, Map<number, number>>();
  let starts = 0;
  for (const { step, session, values } of events) {
    if (session === 1 && starts++ > 0) {
      for (const points of scalars.values()) for (const at of points.keys()) if (at >= step) points.delete(at);
    }
    for (const value of values) {
      const scalar = one(value, 2);
      if (typeof scalar !== "number") continue;
      scalars.set(tagOf(value), (scalars.get(tagOf(value)) ?? new Map<number, number>()).set(step, scalar));
    }
  }
  return scalars;
}

/** Names of the event files in a folder, in TensorBoard's order. */
export const eventFiles = (folder: string): string[] =>
  readdirSync(folder)
    .filter((file) => file.includes("tfevents"))
    .sort();

/** All events in a folder. */
export const eventsIn = (folder: string): ReadEvent[] =>
  eventFiles(folder).flatMap((file) => eventsOf(readFileSync(join(folder, file))));
