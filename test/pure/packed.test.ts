import { describe, expect, it } from "vitest";
import { tensorBytes } from "../../src/base/dtype";
import { decodeWeight, encodeWeight, NF4, quantisedRow, WEIGHT_FORMATS } from "../../src/base/packed";
import type { WeightFormat } from "../../src/base/packed";
import { Random } from "../../src/base/random";

function roundTrip(data: Float32Array, columns: number, format: WeightFormat): Float32Array {
  const encoded = encodeWeight(data, columns, format);
  return decodeWeight(new Uint32Array(encoded.buffer, 0, encoded.length), columns, format, data.length);
}

function normal(count: number, seed = 1): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length: count }, () => random.normal() * 0.02);
}

describe("packed weights", () => {
  it.each(
    WEIGHT_FORMATS.map((format) => [format, { f32: 32, f16: 16, bf16: 16, int8: 8.5, nf4: 4.1406 }[format]] as const),
  )("in %s take %f bits per element of a row of 4096", (format, bits) => {
    expect((tensorBytes(format, [3, 4096]) * 8) / (3 * 4096)).toBeCloseTo(bits, 3);
    expect(encodeWeight(normal(3 * 4096), 4096, format).byteLength).toBe(tensorBytes(format, [3, 4096]));
  });

  it("have rows of whole words, even if the last block is not full", () => {
    expect(quantisedRow("int8", 130)).toEqual({ codes: 33, total: 36 });
    expect(quantisedRow("nf4", 130)).toEqual({ codes: 17, total: 20 });
    expect(quantisedRow("nf4", 4096)).toEqual({ codes: 512, total: 530 });
  });

  it.each([
    ["f16", 2 ** -11],
    ["bf16", 2 ** -8],
  ] as const)("in %s are off by at most half a unit in the last place", (format, unit) => {
    const data = normal(5 * 7);
    roundTrip(data, 7, format).forEach((value, i) => {
      expect(Math.abs(value - data[i]!)).toBeLessThanOrEqual(unit * Math.abs(data[i]!) + 1e-7);
    });
  });

  it("in int8 are off by at most 1/254 of the block's largest value, which is exact", () => {
    const data = normal(2 * 150);
    const decoded = roundTrip(data, 150, "int8");
    for (let row = 0; row < 2; row++) {
      for (let start = 0; start < 150; start += 64) {
        const block = Array.from({ length: Math.min(64, 150 - start) }, (_, i) => row * 150 + start + i);
        const largest = Math.max(...block.map((i) => Math.abs(data[i]!)));
        for (const i of block) {
          const error = Math.abs(decoded[i]! - data[i]!);
          expect(error).toBeLessThanOrEqual(largest / 254 + 1e-9);
          if (Math.abs(data[i]!) === largest) expect(error).toBeLessThan(1e-8);
        }
      }
    }
  });

  it("in nf4 keep its sixteen values exactly, and round others to the nearest", () => {
    const values = Float32Array.from({ length: 64 }, (_, i) => NF4[i % 16]! * 3);
    roundTrip(values, 64, "nf4").forEach((value, i) => expect(value).toBeCloseTo(values[i]!, 6));
    const data = normal(64, 4);
    const scale = data.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
    roundTrip(data, 64, "nf4").forEach((value, i) => {
      const nearest = NF4.reduce((best, value) =>
        Math.abs(value * scale - data[i]!) < Math.abs(best * scale - data[i]!) ? value : best,
      );
      expect(value).toBeCloseTo(nearest * scale, 6);
    });
  });

  it("in nf4 have scales that are off by at most 1/510 of their range in the row", () => {
    const data = Float32Array.from({ length: 4 * 64 }, (_, i) => (i % 64 === 0 ? 1 + Math.floor(i / 64) ** 2 : 0));
    const decoded = roundTrip(data, 256, "nf4");
    for (const block of [0, 1, 2, 3]) {
      expect(Math.abs(decoded[block * 64]! - data[block * 64]!)).toBeLessThanOrEqual(9 / 255 / 2 + 1e-6);
    }
    expect(decoded.filter((value) => value !== 0)).toHaveLength(4);
  });

  it("keep zeros", () => {
    for (const format of WEIGHT_FORMATS)
      expect([...roundTrip(new Float32Array(70), 70, format)]).toEqual([...new Float32Array(70)]);
  });
});
