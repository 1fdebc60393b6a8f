import { joined } from "../base/joined";
import { hex, subtleCrypto } from "../base/sha256";
import { HEAD_BYTES, PLACE_BYTES, PLAN_BYTES } from "./bytes";
import { decode, encodedBytes, WIRE_ENCODINGS } from "./encoding";
import type { WireEncoding } from "./encoding";
import { DistributedError } from "./errors";

/*
 * Messages. Each has a head of fixed size, which says what it is, who sent it and to which run it belongs, and ends in a
 * signature (HMAC-SHA256 with the run's token) of head and contents. What is longer than a message may be goes in several.
 */

/** What a message is. Its number in a head is its place here. */
export const KINDS = ["part", "result", "plan", "found", "lead", "alive", "ask", "answer", "refuse"] as const;
export type Kind = (typeof KINDS)[number];

/** Identifies a device, or a run among those that have had its name: 16 hexadecimal digits. */
export type Id = string;

/** The device's place in a plan: rank is its index. */
export interface Place {
  readonly id: Id;
  /** Share of the rows, relative to the others' weights. */
  readonly weight: number;
}

/** Who shares the work of a round, and how. */
export interface RoundPlan {
  /** Counts the plans of a round: a share belongs to one of them. */
  readonly attempt: number;
  /** Whether updates may round differently. */
  readonly isMixed: boolean;
  /** By rank. */
  readonly places: readonly Place[];
}

export interface Head {
  readonly kind: Kind;
  readonly sender: Id;
  /** The run: drawn by the device that began it. */
  readonly run: Id;
  readonly round: number;
  readonly attempt: number;
  readonly encoding: WireEncoding;
  /** Number of the message, and of all that belong together. */
  readonly chunk: number;
  readonly chunks: number;
  /** Bytes of all of them together, without heads. */
  readonly bytes: number;
  readonly exact: number;
  readonly values: number;
  /** Milliseconds that the sender took to compute its part. */
  readonly millis: number;
  /** Places of the plan that is in the contents. */
  readonly places: number;
  /** First eight bytes of a digest of the sender's trained tensors. */
  readonly digest: Id;
}

/** What messages that belong together hold. */
export interface Contents {
  readonly exact?: Float32Array;
  /** As they are sent. */
  readonly values?: { readonly bytes: Uint8Array; readonly count: number; readonly encoding: WireEncoding };
  readonly plan?: RoundPlan | undefined;
  /** Plain JSON. */
  readonly record?: unknown;
}

const MAGIC = 0x31575453;
const SIGNATURE_BYTES = 32;
const SIGNED_HEAD = HEAD_BYTES - SIGNATURE_BYTES;
export const NO_ID: Id = "0".repeat(16);

/** Signs messages, and tells those that are not from a device with the token. */
export class Signer {
  private constructor(private readonly key: CryptoKey) {}

  /** @throws ConfigError on a page without WebCrypto. */
  static async create(token: string): Promise<Signer> {
    const subtle = subtleCrypto("Messages are signed");
    const algorithm = { name: "HMAC", hash: "SHA-256" };
    return new Signer(await subtle.importKey("raw", text.encode(token), algorithm, false, ["sign", "verify"]));
  }

  /** Puts the signature into a message. */
  async sign(message: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
    const signature = await globalThis.crypto.subtle.sign("HMAC", this.key, signed(message));
    message.set(new Uint8Array(signature), SIGNED_HEAD);
    return message;
  }

  /** Whether the signature is that of a device with the token. */
  verify(message: Uint8Array): Promise<boolean> {
    const signature = message.slice(SIGNED_HEAD, HEAD_BYTES);
    return globalThis.crypto.subtle.verify("HMAC", this.key, signature, signed(message));
  }
}

const text = { encode: (value: string) => new TextEncoder().encode(value) };

/** A message without its signature. */
function signed(message: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(message.length - SIGNATURE_BYTES);
  bytes.set(message.subarray(0, SIGNED_HEAD));
  bytes.set(message.subarray(HEAD_BYTES), SIGNED_HEAD);
  return bytes;
}

/** Eight random bytes. */
export const newId = (): Id => hex(globalThis.crypto.getRandomValues(new Uint8Array(8)));

const bytesOfId = (id: Id): Uint8Array =>
  Uint8Array.from({ length: 8 }, (_, i) => parseInt(id.slice(2 * i, 2 * i + 2), 16));

/** Messages that carry some contents, each of at most so many bytes beside its head. */
export async function messages(
  signer: Signer,
  head: Pick<Head, "kind" | "sender" | "run" | "round" | "attempt" | "digest" | "millis">,
  contents: Contents,
  chunkBytes: number,
): Promise<Uint8Array[]> {
  const payload = payloadOf(contents);
  const chunks = Math.max(1, Math.ceil(payload.length / chunkBytes));
  const made = Array.from({ length: chunks }, (_, chunk) => {
    const part = payload.subarray(chunk * chunkBytes, (chunk + 1) * chunkBytes);
    const message = new Uint8Array(HEAD_BYTES + part.length);
    const view = new DataView(message.buffer);
    view.setUint32(0, MAGIC, true);
    view.setUint8(4, KINDS.indexOf(head.kind));
    view.setUint8(5, WIRE_ENCODINGS.indexOf(contents.values?.encoding ?? "f32"));
    view.setUint16(6, contents.plan?.places.length ?? 0, true);
    [
      head.round,
      head.attempt,
      chunk,
      chunks,
      payload.length,
      contents.exact?.length ?? 0,
      contents.values?.count ?? 0,
      head.millis,
    ].forEach((value, i) => view.setUint32(8 + 4 * i, value, true));
    message.set(bytesOfId(head.sender), 40);
    message.set(bytesOfId(head.run), 48);
    message.set(bytesOfId(head.digest), 56);
    message.set(part, HEAD_BYTES);
    return signer.sign(message);
  });
  return Promise.all(made);
}

function payloadOf({ exact, values, plan, record }: Contents): Uint8Array {
  const parts: Uint8Array[] = [];
  if (exact) parts.push(new Uint8Array(Float32Array.from(exact).buffer));
  if (values) parts.push(values.bytes);
  if (plan) parts.push(bytesOfPlan(plan));
  if (record !== undefined) parts.push(text.encode(JSON.stringify(record)));
  return joined(parts);
}

/** Bytes that JSON takes in a message. */
export const recordBytes = (record: unknown): number =>
  record === undefined ? 0 : text.encode(JSON.stringify(record)).length;

function bytesOfPlan({ attempt, isMixed, places }: RoundPlan): Uint8Array {
  const bytes = new Uint8Array(PLAN_BYTES + places.length * PLACE_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, attempt, true);
  view.setUint32(4, isMixed ? 1 : 0, true);
  places.forEach(({ id, weight }, i) => {
    bytes.set(bytesOfId(id), PLAN_BYTES + i * PLACE_BYTES);
    view.setUint32(PLAN_BYTES + i * PLACE_BYTES + 8, weight, true);
  });
  return bytes;
}

/** The head of a message; undefined for bytes that are not a message of safetape. */
export function headOf(message: Uint8Array): Head | undefined {
  if (message.length < HEAD_BYTES) return undefined;
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  const kind = KINDS[view.getUint8(4)];
  const encoding = WIRE_ENCODINGS[view.getUint8(5)];
  if (view.getUint32(0, true) !== MAGIC || !kind || !encoding) return undefined;
  const word = (i: number): number => view.getUint32(8 + 4 * i, true);
  const id = (offset: number): Id => hex(message.subarray(offset, offset + 8));
  return {
    kind,
    encoding,
    places: view.getUint16(6, true),
    round: word(0),
    attempt: word(1),
    chunk: word(2),
    chunks: word(3),
    bytes: word(4),
    exact: word(5),
    values: word(6),
    millis: word(7),
    sender: id(40),
    run: id(48),
    digest: id(56),
  };
}

/** What messages that belong together hold, decoded. */
export interface Received {
  readonly exact: Float32Array;
  readonly values: Float32Array;
  readonly plan: RoundPlan | undefined;
  readonly record: unknown;
}

/** @throws DistributedError for contents that are shorter than their head says, or whose JSON is none. */
export function contentsOf({ exact, values, places, encoding, bytes }: Head, chunks: readonly Uint8Array[]): Received {
  const payload = joined(chunks.map((chunk) => chunk.subarray(HEAD_BYTES)));
  const valueBytes = encodedBytes(values, encoding);
  const planBytes = places > 0 ? PLAN_BYTES + places * PLACE_BYTES : 0;
  const recordStart = 4 * exact + valueBytes + planBytes;
  if (payload.length !== bytes || recordStart > bytes) {
    throw new DistributedError(
      `A message has ${payload.length} bytes; its head says ${Math.max(bytes, recordStart)}.`,
      "Use one version of safetape on all devices.",
    );
  }
  const record = payload.subarray(recordStart);
  return {
    exact: decode(payload.subarray(0, 4 * exact), exact, "f32"),
    values: decode(payload.subarray(4 * exact, 4 * exact + valueBytes), values, encoding),
    plan: places > 0 ? planOf(payload.slice(4 * exact + valueBytes, recordStart), places) : undefined,
    record: record.length > 0 ? parseRecord(record) : undefined,
  };
}

function planOf(bytes: Uint8Array, places: number): RoundPlan {
  const view = new DataView(bytes.buffer);
  return {
    attempt: view.getUint32(0, true),
    isMixed: view.getUint32(4, true) === 1,
    places: Array.from({ length: places }, (_, i) => {
      const offset = PLAN_BYTES + i * PLACE_BYTES;
      return { id: hex(bytes.subarray(offset, offset + 8)), weight: view.getUint32(offset + 8, true) };
    }),
  };
}

function parseRecord(bytes: Uint8Array): unknown {
  try {
    const record: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    return record;
  } catch {
    throw new DistributedError("A message's record is not JSON.", "Use one version of safetape on all devices.");
  }
}

/** Most messages of a set that `Assembly` waits for. */
const MOST_CHUNKS = 1 << 16;

/** Puts messages that belong together into one. Those of one sender follow each other; a new set drops an incomplete one. */
export class Assembly {
  #head: Head | undefined;
  #chunks: Uint8Array[] = [];

  /**
   * Adds a message.
   * @returns head and messages of the set that it completes; undefined before.
   */
  add(head: Head, message: Uint8Array): { readonly head: Head; readonly chunks: readonly Uint8Array[] } | undefined {
    const expected = this.#head;
    const isNext =
      expected !== undefined &&
      head.kind === expected.kind &&
      head.sender === expected.sender &&
      head.round === expected.round &&
      head.attempt === expected.attempt &&
      head.bytes === expected.bytes &&
      head.chunks === expected.chunks &&
      head.chunk === this.#chunks.length;
    if (!isNext) {
      this.#head = undefined;
      this.#chunks = [];
      if (head.chunk !== 0 || head.chunks > MOST_CHUNKS) return undefined;
      this.#head = head;
    }
    this.#chunks.push(message);
    if (this.#chunks.length < head.chunks) return undefined;
    const complete = { head, chunks: this.#chunks };
    this.#head = undefined;
    this.#chunks = [];
    return complete;
  }
}
