// @ts-check
// Seeds of the readers of safetensors files and their indices.

/**
 * A safetensors file: header length, header, data.
 * @param {unknown} header an object, or a string that is written unchanged
 * @param {number} dataBytes
 * @param {bigint} [length] the header length that the file states, by default the true one
 */
function file(header, dataBytes, length) {
  const json = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const bytes = Buffer.alloc(8 + json.length + dataBytes);
  bytes.writeBigUInt64LE(length ?? BigInt(json.length), 0);
  json.copy(bytes, 8);
  for (let i = 0; i < dataBytes; i++) bytes[8 + json.length + i] = (i * 37) % 64;
  return bytes;
}

/** Sets all bits of the last `count` bytes. @param {Buffer} bytes @param {number} count */
const withOnes = (bytes, count) => bytes.fill(0xff, bytes.length - count);

/** @param {string} dtype @param {number[]} shape @param {number} start @param {number} end */
const entry = (dtype, shape, start, end) => ({ dtype, shape, data_offsets: [start, end] });

const TWO = { a: entry("F32", [3, 2], 0, 24), b: entry("I32", [2], 24, 32) };
const TYPES = {
  __metadata__: { format: "pt" },
  f16: entry("F16", [4], 0, 8),
  bf16: entry("BF16", [2, 2], 8, 16),
  f64: entry("F64", [1], 16, 24),
  i64: entry("I64", [1], 24, 32),
  u8: entry("U8", [3], 32, 35),
  bool: entry("BOOL", [1], 35, 36),
  empty: entry("F32", [0, 7], 36, 36),
  scalar: entry("F32", [], 36, 40),
};

/** @param {(path: string) => Buffer} valid */
export function safetensorsSeeds(valid) {
  const adapter = valid("interop-data/bert/rslora/adapter_model.safetensors");
  return {
    safetensors: {
      "two-tensors": file(TWO, 32),
      "every-type": file(TYPES, 40),
      "padded-header": file(`${JSON.stringify(TWO)}        `, 32),
      "no-tensors": file({}, 0),
      "no-bytes": Buffer.alloc(0),
      "seven-bytes": Buffer.alloc(7),
      "length-2-53": file(TWO, 32, 2n ** 53n),
      "length-2-64": file(TWO, 32, 2n ** 64n - 1n),
      "length-one-more": file(TWO, 0, BigInt(JSON.stringify(TWO).length + 1)),
      "length-zero": file(TWO, 32, 0n),
      overlapping: file({ a: entry("F32", [4], 0, 16), b: entry("F32", [4], 8, 24) }, 24),
      "same-bytes-twice": file({ a: entry("F32", [4], 0, 16), b: entry("F32", [4], 0, 16) }, 16),
      gap: file({ a: entry("F32", [2], 0, 8), b: entry("F32", [2], 16, 24) }, 24),
      "negative-offset": file({ a: entry("F32", [2], -8, 0) }, 0),
      backwards: file({ a: entry("F32", [2], 8, 0) }, 8),
      "beyond-the-end": file({ a: entry("F32", [100], 0, 400) }, 8),
      "huge-shape": file({ a: entry("F32", [2 ** 31, 2 ** 31], 0, 8) }, 8),
      "shape-that-wraps": file({ a: entry("F32", [2 ** 32, 2 ** 32], 0, 0) }, 0),
      "zero-times-huge": file({ a: entry("F32", [0, 2 ** 52], 0, 0) }, 0),
      "size-1e308": file('{"a":{"dtype":"F32","shape":[1e308],"data_offsets":[0,1e308]}}', 8),
      "size-1e400": file('{"a":{"dtype":"F32","shape":[1e400],"data_offsets":[0,8]}}', 8),
      "minus-zero": file('{"a":{"dtype":"F32","shape":[-0],"data_offsets":[-0,0]}}', 0),
      "half-a-size": file('{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,6]}}', 6),
      "unknown-type": file({ a: entry("Q4_K", [2], 0, 8) }, 8),
      "type-of-objects": file({ a: entry("constructor", [2], 0, 8), b: entry("__proto__", [0], 8, 8) }, 8),
      "proto-as-name": file('{"__proto__":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 8),
      "proto-inside": file(
        '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"__proto__":{"polluted":1}},"constructor":{"prototype":{}}}',
        8,
      ),
      "duplicate-names": file(
        '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}}',
        8,
      ),
      "metadata-of-numbers": file({ __metadata__: { a: 1 }, a: entry("F32", [2], 0, 8) }, 8),
      list: file("[]", 0),
      deep: file(`{"a":${"[".repeat(20000)}${"]".repeat(20000)}}`, 0),
      "lone-surrogate": file('{"\\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 8),
      "nul-in-name": file('{"a\\u0000b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 8),
      bom: file(`\ufeff${JSON.stringify(TWO)}`, 32),
      "not-utf8": Buffer.concat([file({}, 0).subarray(0, 8), Buffer.from([0xff, 0xfe])]),
      "many-empty": file(
        Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`t${i}`, entry("F32", [0], 0, 0)])),
        0,
      ),
      "big-integer": withOnes(file({ a: entry("I64", [1], 0, 8) }, 8), 8),
      "not-finite": withOnes(file({ a: entry("F32", [1], 0, 4) }, 4), 4),
    },
    "adapter-weights": {
      rslora: adapter,
      "cut-off": adapter.subarray(0, 1200),
      "data-cut-off": adapter.subarray(0, -4),
    },
    index: indexSeeds(),
  };
}

/** @returns {Record<string, string>} */
function indexSeeds() {
  /** @param {Record<string, unknown>} weight_map @param {unknown} [metadata] */
  const index = (weight_map, metadata = { total_size: 32 }) => JSON.stringify({ metadata, weight_map });
  const shard = "one.safetensors";
  return {
    "two-shards": index({ a: shard, b: shard, c: "two.safetensors" }),
    "part-of-a-shard": index({ b: shard }),
    nothing: index({}),
    parent: index({ a: "../one.safetensors" }),
    "parent-windows": index({ a: "..\\one.safetensors" }),
    absolute: index({ a: "/etc/passwd" }),
    drive: index({ a: "C:\\one.safetensors" }),
    url: index({ a: "https://example.com/one.safetensors" }),
    folder: index({ a: "sub/one.safetensors" }),
    dots: index({ a: "..", b: "." }),
    "encoded-parent": index({ a: "%2e%2e%2fone.safetensors" }),
    nul: index({ a: "one.safetensors\u0000.txt" }),
    "empty-name": index({ a: "" }),
    "long-name": index({ a: "x".repeat(5000) }),
    "missing-shard": index({ a: "three.safetensors" }),
    "wrong-shard": index({ a: "two.safetensors" }),
    "config-as-shard": index({ a: "config.json" }),
    "itself-as-shard": index({ a: "model.safetensors.index.json" }),
    "proto-as-name": '{"weight_map":{"__proto__":"one.safetensors","a":"one.safetensors"}}',
    "constructor-as-name": index({ constructor: shard, toString: shard }),
    "proto-as-shard": index({ a: "__proto__", b: "constructor" }),
    "proto-as-map": '{"weight_map":{},"__proto__":{"polluted":1}}',
    "duplicate-names": '{"weight_map":{"a":"one.safetensors","a":"../one.safetensors"}}',
    numbers: index({ a: 1, b: null }),
    list: JSON.stringify({ weight_map: [shard] }),
    "no-map": "{}",
    deep: `{"weight_map":${'{"a":'.repeat(5000)}1${"}".repeat(5000)}}`,
    bom: `\ufeff${index({ a: shard })}`,
    crlf: index({ a: shard }).replaceAll(",", ",\r\n"),
    "huge-number": '{"metadata":{"total_size":1e999},"weight_map":{"a":"one.safetensors"}}',
  };
}
