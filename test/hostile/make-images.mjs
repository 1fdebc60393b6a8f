// @ts-check
// Seeds of the image readers.
import { crc32, deflateSync, gzipSync } from "node:zlib";

/** @param {string} type @param {Uint8Array} data */
function chunk(type, data) {
  const bytes = Buffer.alloc(12 + data.length);
  bytes.writeUInt32BE(data.length, 0);
  bytes.write(type, 4, "latin1");
  bytes.set(data, 8);
  bytes.writeUInt32BE(crc32(bytes.subarray(4, 8 + data.length)), 8 + data.length);
  return bytes;
}

/**
 * A PNG with a given header and any data.
 * @param {readonly [width: number, height: number, bits: number, type: number, interlaced?: number]} header
 * @param {Uint8Array} data before compression
 * @param {Uint8Array[]} [chunks] other chunks, placed before the pixels
 */
function png([width, height, bits, type, interlaced = 0], data, chunks = []) {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([bits, type, 0, 0, interlaced], 8);
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  const pixels = chunk("IDAT", deflateSync(data, { level: 9 }));
  return Buffer.concat([signature, chunk("IHDR", header), ...chunks, pixels, chunk("IEND", new Uint8Array(0))]);
}

/**
 * An IDX file.
 * @param {readonly number[]} shape
 * @param {Uint8Array} values
 * @param {number} [type] 8: unsigned bytes
 */
function idx(shape, values, type = 8) {
  const header = Buffer.alloc(4 + 4 * shape.length);
  header.set([0, 0, type, shape.length]);
  shape.forEach((length, i) => header.writeUInt32BE(length, 4 + 4 * i));
  return Buffer.concat([header, values]);
}

/** @param {(path: string) => Buffer} valid */
export function imageSeeds(valid) {
  const { files } = JSON.parse(String(valid("image-data/pillow.json")));
  const bytes = (/** @type {string} */ name) => Buffer.from(files[name].bytes, "base64");
  const jpeg = bytes("jpeg");
  const tall = Buffer.from(jpeg);
  const frame = tall.indexOf(Buffer.from([0xff, 0xc0]));
  tall.writeUInt16BE(65535, frame + 5);
  tall.writeUInt16BE(1000, frame + 7);
  const wide = Buffer.from(tall);
  wide.writeUInt16BE(65535, frame + 7);
  const flat = Buffer.from(jpeg);
  flat.writeUInt16BE(0, frame + 5);
  const noise = (/** @type {number} */ n) => Uint8Array.from({ length: n }, (_, i) => (i * 97) % 251);
  const comment = (/** @type {number} */ n) =>
    Buffer.concat([Buffer.from([0xff, 0xfe, n >> 8, n & 255]), Buffer.alloc(Math.max(0, n - 2))]);
  return {
    cifar: {
      ten: Buffer.concat([Buffer.from([3]), noise(3072), Buffer.from([9]), noise(3072)]),
      hundred: Buffer.concat([Buffer.from([3, 77]), noise(3072)]),
      "label-too-large": Buffer.concat([Buffer.from([200]), noise(3072)]),
      "one-byte-short": Buffer.concat([Buffer.from([3]), noise(3071)]),
      nothing: Buffer.alloc(0),
    },
    idx: {
      plain: idx([2, 3, 3], noise(18)),
      zipped: gzipSync(idx([2, 28, 28], noise(2 * 784))),
      labels: idx([2], noise(2)),
      floats: idx([2, 1, 1], noise(8), 13),
      "cut-off": idx([2, 3, 3], noise(17)),
      longer: idx([2, 3, 3], noise(19)),
      "header-cut-off": idx([2, 3, 3], noise(0)).subarray(0, 9),
      "zipped-cut-off": gzipSync(idx([2, 28, 28], noise(2 * 784))).subarray(0, -40),
      "zipped-twice": gzipSync(gzipSync(idx([2, 3, 3], noise(18)))),
      bomb: gzipSync(idx([2, 3, 3], new Uint8Array(2 << 20))),
      "declares-2-63": idx([2, 2 ** 31, 2 ** 31], noise(18)),
      "declares-8192x8192": gzipSync(idx([2, 8192, 8192], noise(18))),
      "no-pixels": idx([2, 0, 3], noise(0)),
      "another-count": idx([3, 3, 3], noise(27)),
      nothing: Buffer.alloc(0),
    },
    png: {
      ...Object.fromEntries(
        ["rgb", "rgba", "grey", "palette", "black and white", "grey of 16 bits"].map((name) => [
          name.replaceAll(" ", "-"),
          bytes(name),
        ]),
      ),
      "declares-8000x8000": png([8000, 8000, 8, 2], noise(20)),
      "declares-2-31": png([2 ** 31 - 1, 2 ** 31 - 1, 16, 6], noise(20)),
      "declares-nothing": png([0, 0, 8, 2], noise(20)),
      bomb: png([16, 16, 8, 0], new Uint8Array(2 << 20)),
      "bomb-in-text": png([2, 2, 8, 0], noise(6).fill(0), [
        chunk("zTXt", Buffer.concat([Buffer.from("a\0\0"), deflateSync(new Uint8Array(2 << 20))])),
      ]),
      "bomb-in-profile": png([2, 2, 8, 0], noise(6).fill(0), [
        chunk("iCCP", Buffer.concat([Buffer.from("a\0\0"), deflateSync(new Uint8Array(2 << 20))])),
      ]),
      "too-few-rows": png([16, 16, 8, 2], noise(49)),
      interlaced: png([5, 5, 8, 2, 1], new Uint8Array(200)),
      "bad-filter": png([2, 2, 8, 0], Uint8Array.of(9, 1, 1, 9, 1, 1)),
      "palette-too-short": png([4, 1, 8, 3], Uint8Array.of(0, 0, 1, 2, 255), [chunk("PLTE", Uint8Array.of(1, 2, 3))]),
      "palette-missing": png([4, 1, 8, 3], Uint8Array.of(0, 0, 1, 2, 3)),
      "palette-odd": png([4, 1, 8, 3], Uint8Array.of(0, 0, 0, 0, 0), [chunk("PLTE", Uint8Array.of(1, 2))]),
      "no-pixels": bytes("rgb").subarray(0, 33),
      "cut-off": bytes("rgb").subarray(0, -30),
      animated: png([2, 2, 8, 0], noise(6).fill(0), [chunk("acTL", Uint8Array.of(0, 255, 255, 255, 0, 0, 0, 0))]),
      "long-chunk": Buffer.concat([
        bytes("rgb").subarray(0, 33),
        Buffer.from([0x7f, 0xff, 0xff, 0xff]),
        Buffer.from("IDAT"),
      ]),
    },
    jpeg: {
      baseline: jpeg,
      progressive: bytes("progressive jpeg"),
      "declares-65535x1000": tall,
      "declares-65535x65535": wide,
      "declares-no-rows": flat,
      "cut-off": jpeg.subarray(0, Math.floor(jpeg.length * 0.7)),
      "header-only": jpeg.subarray(0, frame + 12),
      "two-bytes": Buffer.from([0xff, 0xd8]),
      "only-fill": Buffer.concat([Buffer.from([0xff, 0xd8]), Buffer.alloc(5000, 0xff)]),
      "comment-of-zero": Buffer.concat([Buffer.from([0xff, 0xd8]), comment(0), jpeg.subarray(2)]),
      "comment-beyond": Buffer.concat([Buffer.from([0xff, 0xd8, 0xff, 0xfe, 0xff, 0xff]), jpeg.subarray(2)]),
      "scans-without-end": Buffer.concat([
        jpeg.subarray(0, -2),
        ...Array(50).fill(jpeg.subarray(jpeg.indexOf(Buffer.from([0xff, 0xda])), -2)),
      ]),
    },
  };
}
