// @ts-check
// Seeds of the reader of checkpoints.
import { createHash } from "node:crypto";

const sha256 = (/** @type {Uint8Array[]} */ ...parts) => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
};

const RUN = {
  version: 1,
  identity: { seed: "1" },
  gpu: "none",
  step: 2,
  hasBegun: true,
  live: ["a"],
  masked: [],
  isMerging: false,
  shapes: [{ size: 2, length: 8 }],
  variants: [[]],
  updates: { ages: [["hyper", 2]] },
  start: { batches: 0 },
  place: { batches: 2 },
  // What earlier versions call unreportedFreezes: it must be read as well.
  untold: [],
  policy: { averages: [0.5] },
  extra: { epoch: 1 },
  history: {
    freezes: [],
    skipped: [],
    flops: 0.1,
    seconds: 1,
    savedBytesFirst: 0,
    savedBytesLast: 0,
    peak: { weight: 0, state: 0, saved: 0, scratch: 0 },
  },
};

const TENSORS = /** @type {const} */ ([
  ["a", "F32", 4],
  ["losses of the steps", "F32", 2],
  ["extra: words", "I32", 1],
  ["nothing", "F32", 0],
]);

/**
 * A run's checkpoint with a valid checksum.
 * @param {unknown} run the record, or text in place of it
 * @param {{ format?: string, tensors?: readonly (readonly [string, string, number])[] }} [options]
 */
function checkpoint(run, { format = "safetape run", tensors = TENSORS } = {}) {
  let end = 0;
  const entries = tensors.map(([name, dtype, count]) => {
    const entry = { dtype, shape: [count], data_offsets: [end, end + 4 * count] };
    end += 4 * count;
    return [name, entry];
  });
  const sum = { dtype: "I32", shape: [8], data_offsets: [end, end + 32] };
  const text = typeof run === "string" ? run : JSON.stringify(run);
  const json = JSON.stringify({ __metadata__: { format, run: text }, ...Object.fromEntries(entries), sha256: sum });
  const header = Buffer.alloc(8 + json.length + ((8 - (json.length % 8)) % 8), " ");
  header.writeBigUInt64LE(BigInt(header.length - 8), 0);
  header.write(json, 8);
  const data = tensors.map(([, , count]) => Buffer.from(new Float32Array(count).fill(0.5).buffer));
  return Buffer.concat([header, ...data, sha256(sha256(header), ...data.map((bytes) => sha256(bytes)))]);
}

/** @returns {Record<string, Record<string, Uint8Array>>} */
export function runSeeds() {
  /** @param {Record<string, unknown>} changes */
  const changed = (changes) => checkpoint({ ...RUN, ...changes });
  const whole = checkpoint(RUN);
  const flipped = Buffer.from(whole);
  flipped.writeUInt8(flipped.readUInt8(flipped.length - 40) ^ 1, flipped.length - 40);
  return {
    checkpoint: {
      whole,
      "bit-flipped": flipped,
      "cut-off": whole.subarray(0, -7),
      nothing: Buffer.alloc(0),
      "another-format": checkpoint(RUN, { format: "pt" }),
      "no-record": checkpoint(""),
      "record-of-nothing": checkpoint("null"),
      "record-deep": checkpoint(`{"version":${"[".repeat(3000)}${"]".repeat(3000)}}`),
      "another-version": changed({ version: 2 }),
      "unknown-key": changed({ evil: true }),
      "step-1e308": changed({ step: 1e308 }),
      "step-2-53": changed({ step: 2 ** 53 - 1 }),
      "step-negative": changed({ step: -1 }),
      "size-1e9": changed({ shapes: [{ size: 1e9, length: 1e9 }] }),
      "variants-many": changed({ variants: [Array.from({ length: 500 }, (_, i) => i)] }),
      "live-of-objects": changed({ live: ["__proto__", "constructor"] }),
      "live-of-nothing": changed({ live: [] }),
      "identity-is-a-path": changed({ identity: { model: "../../etc/passwd", constructor: "x" } }),
      proto: checkpoint(`{"__proto__":{"polluted":1},${JSON.stringify(RUN).slice(1)}`),
      "proto-inside": checkpoint(JSON.stringify(RUN).replace('"policy":{', '"policy":{"__proto__":{"polluted":1},')),
      "duplicate-keys": checkpoint(`${JSON.stringify(RUN).slice(0, -1)},"step":0}`),
      "losses-missing": checkpoint(RUN, { tensors: [["a", "F32", 4]] }),
      "losses-of-integers": checkpoint(RUN, { tensors: [["losses of the steps", "I32", 2]] }),
      "tensor-of-bytes": checkpoint(RUN, {
        tensors: [
          ["a", "U8", 0],
          ["losses of the steps", "F32", 2],
        ],
      }),
      "no-tensors": checkpoint(RUN, { tensors: [] }),
    },
  };
}
