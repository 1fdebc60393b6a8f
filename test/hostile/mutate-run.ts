import { createHash } from "node:crypto";
import type { Random } from "../../src/base/random";
import { mutatedJson } from "./mutate-json";

const SUM_BYTES = 32;
const decoder = new TextDecoder();
const encoder = new TextEncoder();

interface Header {
  readonly __metadata__: Record<string, string>;
}

type TensorEntries = Readonly<Record<string, { readonly data_offsets: readonly [number, number] }>>;

/**
 * Mutates the record or the header of a checkpoint and updates the checksum, without which hardly any input would pass the
 * reader's first check. Other files are returned unchanged.
 */
export function mutatedRun(bytes: Uint8Array, random: Random): Uint8Array {
  try {
    const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
    const json = bytes.subarray(8, 8 + length);
    const header = random.below(4) === 0 ? mutatedJson(json, random) : withRecord(json, random);
    const prefix = new Uint8Array(8);
    new DataView(prefix.buffer).setBigUint64(0, BigInt(header.length), true);
    return withSum(Buffer.concat([prefix, header]), bytes.subarray(8 + length));
  } catch {
    return bytes;
  }
}

function withRecord(json: Uint8Array, random: Random): Uint8Array {
  // A seed's header; for a file that has another form, the caller catches the error.
  const header = JSON.parse(decoder.decode(json)) as Header;
  const record = mutatedJson(encoder.encode(header.__metadata__["run"]), random);
  return encoder.encode(
    JSON.stringify({ ...header, __metadata__: { ...header.__metadata__, run: decoder.decode(record) } }),
  );
}

const sha256 = (bytes: Uint8Array): Buffer => createHash("sha256").update(bytes).digest();

/** The file with its last bytes replaced by its checksum: the hash of the hashes of its header and its tensors. */
function withSum(header: Uint8Array, data: Uint8Array): Uint8Array {
  // A mutated header may have any form; whatever goes wrong with it here, the caller catches.
  const { __metadata__: _, ...tensors } = JSON.parse(decoder.decode(header.subarray(8))) as Header & TensorEntries;
  const ranges = Object.values(tensors)
    .map(({ data_offsets }) => data_offsets)
    .sort(([a, b], [c, d]) => a - c || b - d);
  const sums = ranges.slice(0, -1).map(([start, end]) => sha256(data.subarray(start, end)));
  const sum = sha256(Buffer.concat([sha256(header), ...sums]));
  return new Uint8Array(Buffer.concat([header, data.subarray(0, -SUM_BYTES), sum]));
}
