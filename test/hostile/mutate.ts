import { crc32 } from "node:zlib";
import type { Random } from "../../src/base/random";
import { mutatedJson } from "./mutate-json";
import { mutatedRun } from "./mutate-run";

/** The format of a file, which some mutations respect so that their results pass the reader's first check. */
export type Form = "bytes" | "json" | "safetensors" | "png" | "run";

/** Integers at the limits of common types, at which readers of numbers and sizes tend to fail. */
const LIMITS = [0n, 1n, 0x7fn, 0xffn, 0x7fffn, 0xffffn, 2n ** 31n - 1n, 2n ** 32n - 1n, 2n ** 53n, 2n ** 64n - 1n];
const encoder = new TextEncoder();

/** Makes a mutation of `seeds[pick]`: one change that respects the format, or one to four edits of bytes. */
export function mutated(
  seeds: readonly Uint8Array[],
  pick: number,
  { form, words }: { readonly form: Form; readonly words: readonly string[] },
  random: Random,
): Uint8Array {
  let bytes = seeds[pick]!;
  if (form !== "bytes" && random.below(2) === 0) return mutatedInFormat(bytes, form, random);
  const count = 1 + random.below(4);
  for (let i = 0; i < count; i++) bytes = edited(bytes, seeds, words, random);
  return form === "png" && random.below(2) === 0 ? withChecksums(bytes) : bytes;
}

function mutatedInFormat(bytes: Uint8Array, form: Exclude<Form, "bytes">, random: Random): Uint8Array {
  if (form === "json") return mutatedJson(bytes, random);
  if (form === "run") return mutatedRun(bytes, random);
  return form === "png" ? withChecksums(withPngHeaderByte(bytes, random)) : withMutatedHeader(bytes, random);
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

const positionIn = (bytes: Uint8Array, random: Random): number => random.below(bytes.length + 1);

const EDITS: readonly Edit[] = [
  // Flips a bit.
  (bytes, random) => {
    const at = positionIn(bytes, random);
    return splice(bytes, at, 1, Uint8Array.of((bytes[at] ?? 0) ^ (1 << random.below(8))));
  },
  // Replaces or inserts a byte.
  (bytes, random) => splice(bytes, positionIn(bytes, random), random.below(2), Uint8Array.of(random.below(256))),
  // Removes a part; cuts off the end.
  (bytes, random) => splice(bytes, positionIn(bytes, random), random.below(24), new Uint8Array(0)),
  (bytes, random) => bytes.slice(0, positionIn(bytes, random)),
  // Repeats a part.
  (bytes, random) => {
    const [from, at] = [positionIn(bytes, random), positionIn(bytes, random)];
    return splice(bytes, at, 0, bytes.subarray(from, from + random.below(64)));
  },
  // Inserts a word of the format, or one with a meaning in JavaScript or in file systems.
  (bytes, random, _seeds, words) =>
    splice(bytes, positionIn(bytes, random), random.below(6), encoder.encode(words[random.below(words.length)])),
  // Inserts an integer at the limit of a type, in binary or as digits.
  (bytes, random) => splice(bytes, positionIn(bytes, random), random.below(9), randomLimit(random)),
  // Joins the beginning of this seed to the end of another.
  (bytes, random, seeds) => {
    const other = seeds[random.below(seeds.length)]!;
    return joined(bytes.subarray(0, positionIn(bytes, random)), other.subarray(positionIn(other, random)));
  },
];

const joined = (a: Uint8Array, b: Uint8Array): Uint8Array => splice(a, a.length, 0, b);

function randomLimit(random: Random): Uint8Array {
  const value = LIMITS[random.below(LIMITS.length)]!;
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

/** Mutates the JSON header of a safetensors file and updates the header length. */
function withMutatedHeader(bytes: Uint8Array, random: Random): Uint8Array {
  if (bytes.length < 8) return bytes;
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  if (length > bytes.length - 8) return bytes;
  const header = mutatedJson(bytes.subarray(8, 8 + length), random);
  const prefix = new Uint8Array(8);
  new DataView(prefix.buffer).setBigUint64(0, BigInt(header.length), true);
  return joined(joined(prefix, header), bytes.subarray(8 + length));
}

/** Changes a byte in a PNG's header. */
function withPngHeaderByte(bytes: Uint8Array, random: Random): Uint8Array {
  const result = Uint8Array.from(bytes);
  const at = 16 + random.below(13);
  if (at < result.length) result[at] = random.below(2) === 0 ? random.below(17) : random.below(256);
  return result;
}

/** Updates the checksums of a PNG's chunks, without which hardly any mutation would pass the first check. */
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
