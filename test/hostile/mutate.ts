import { crc32 } from "node:zlib";
import type { Random } from "../../src/base/random";
import { mutatedJson } from "./mutate-json";
import { mutatedRun } from "./mutate-run";

/** What a mutation knows of the format, so that some inputs get past its first check. */
export type Form = "bytes" | "json" | "safetensors" | "png" | "run";

/** What numbers and sizes of files go wrong at. */
const EDGES = [0n, 1n, 0x7fn, 0xffn, 0x7fffn, 0xffffn, 2n ** 31n - 1n, 2n ** 32n - 1n, 2n ** 53n, 2n ** 64n - 1n];
const encoder = new TextEncoder();

/** One to four changes of a seed, the same for the same random numbers. */
export function mutated(
  seeds: readonly Uint8Array[],
  pick: number,
  { form, words }: { readonly form: Form; readonly words: readonly string[] },
  random: Random,
): Uint8Array {
  let bytes = seeds[pick]!;
  if (form !== "bytes" && random.below(2) === 0) return formed(bytes, form, random);
  const count = 1 + random.below(4);
  for (let i = 0; i < count; i++) bytes = edited(bytes, seeds, words, random);
  return form === "png" && random.below(2) === 0 ? withChecksums(bytes) : bytes;
}

function formed(bytes: Uint8Array, form: Exclude<Form, "bytes">, random: Random): Uint8Array {
  if (form === "json") return mutatedJson(bytes, random);
  if (form === "run") return mutatedRun(bytes, random);
  return form === "png" ? withChecksums(inHeader(bytes, random)) : withHeader(bytes, random);
}

type Edit = (bytes: Uint8Array, random: Random, seeds: readonly Uint8Array[], words: readonly string[]) => Uint8Array;

const splice = (bytes: Uint8Array, at: number, remove: number, insert: Uint8Array): Uint8Array => {
  const tail = bytes.subarray(Math.min(bytes.length, at + remove));
  const result = new Uint8Array(at + insert.length + tail.length);
  result.set(bytes.subarray(0, at));
  result.set(insert, at);
  result.set(tail, at + insert.length);
  return result;
};

const placeIn = (bytes: Uint8Array, random: Random): number => random.below(bytes.length + 1);

const EDITS: readonly Edit[] = [
  // A bit.
  (bytes, random) => {
    const at = placeIn(bytes, random);
    return splice(bytes, at, 1, Uint8Array.of((bytes[at] ?? 0) ^ (1 << random.below(8))));
  },
  // A byte.
  (bytes, random) => splice(bytes, placeIn(bytes, random), random.below(2), Uint8Array.of(random.below(256))),
  // A part removed; the end cut off.
  (bytes, random) => splice(bytes, placeIn(bytes, random), random.below(24), new Uint8Array(0)),
  (bytes, random) => bytes.slice(0, placeIn(bytes, random)),
  // A part again.
  (bytes, random) => {
    const [from, at] = [placeIn(bytes, random), placeIn(bytes, random)];
    return splice(bytes, at, 0, bytes.subarray(from, from + random.below(64)));
  },
  // A word of the format, or one that means something to JavaScript or to a file system.
  (bytes, random, _seeds, words) =>
    splice(bytes, placeIn(bytes, random), random.below(6), encoder.encode(words[random.below(words.length)])),
  // An edge of whole numbers, in binary or in digits.
  (bytes, random) => splice(bytes, placeIn(bytes, random), random.below(9), edge(random)),
  // The beginning of this seed and the end of another.
  (bytes, random, seeds) => {
    const other = seeds[random.below(seeds.length)]!;
    return joined(bytes.subarray(0, placeIn(bytes, random)), other.subarray(placeIn(other, random)));
  },
];

const joined = (a: Uint8Array, b: Uint8Array): Uint8Array => splice(a, a.length, 0, b);

function edge(random: Random): Uint8Array {
  const value = EDGES[random.below(EDGES.length)]!;
  if (random.below(3) === 0) return encoder.encode(`${random.below(2) === 0 ? "-" : ""}${value}`);
  const width = [1, 2, 4, 8][random.below(4)]!;
  const bytes = new Uint8Array(8);
  const isLittle = random.below(2) === 0;
  new DataView(bytes.buffer).setBigUint64(0, value, isLittle);
  return isLittle ? bytes.subarray(0, width) : bytes.subarray(8 - width);
}

function edited(bytes: Uint8Array, seeds: readonly Uint8Array[], words: readonly string[], random: Random): Uint8Array {
  const edit = EDITS[random.below(EDITS.length)]!;
  return edit(bytes, random, seeds, words);
}

/** A safetensors file with other values in its header, whose length then fits again. */
function withHeader(bytes: Uint8Array, random: Random): Uint8Array {
  if (bytes.length < 8) return bytes;
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  if (length > bytes.length - 8) return bytes;
  const header = mutatedJson(bytes.subarray(8, 8 + length), random);
  const prefix = new Uint8Array(8);
  new DataView(prefix.buffer).setBigUint64(0, BigInt(header.length), true);
  return joined(joined(prefix, header), bytes.subarray(8 + length));
}

/** A PNG with another byte in its header's fields. */
function inHeader(bytes: Uint8Array, random: Random): Uint8Array {
  const result = Uint8Array.from(bytes);
  const at = 16 + random.below(13);
  if (at < result.length) result[at] = random.below(2) === 0 ? random.below(17) : random.below(256);
  return result;
}

/** A PNG with checksums that fit: without them hardly an input gets past the first one. */
function withChecksums(bytes: Uint8Array): Uint8Array {
  const result = Uint8Array.from(bytes);
  const view = new DataView(result.buffer);
  for (let at = 8; at + 12 <= result.length;) {
    const end = at + 8 + view.getUint32(at);
    if (end + 4 > result.length) break;
    view.setUint32(end, crc32(result.subarray(at + 4, end)));
    at = end + 4;
  }
  return result;
}
