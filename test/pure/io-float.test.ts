import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decodeBf16, decodeF16, encodeBf16, encodeF16 } from "../../src/base/float";

const CODES = Uint16Array.from({ length: 65536 }, (_, code) => code);

/** The value of a code by the definition of its format, from sign, exponent and fraction. */
function definedValue(code: number, exponentBits: number, mantissaBits: number): number {
  const sign = code >>> 15 === 1 ? -1 : 1;
  const exponent = (code >>> mantissaBits) & (2 ** exponentBits - 1);
  const fraction = (code & (2 ** mantissaBits - 1)) / 2 ** mantissaBits;
  const bias = 2 ** (exponentBits - 1) - 1;
  if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Infinity : NaN;
  if (exponent === 0) return sign * fraction * 2 ** (1 - bias);
  return sign * (1 + fraction) * 2 ** (exponent - bias);
}

function isNaNCode(code: number, exponentMask: number): boolean {
  return (code & 0x7fff) > exponentMask;
}

describe.each([
  { name: "f16", decode: decodeF16, encode: encodeF16, exponentBits: 5, mantissaBits: 10, infinity: 0x7c00 },
  { name: "bf16", decode: decodeBf16, encode: encodeBf16, exponentBits: 8, mantissaBits: 7, infinity: 0x7f80 },
])("$name", ({ decode, encode, exponentBits, mantissaBits, infinity }) => {
  const values = decode(CODES);

  test("decodes each of the 65,536 codes to the value that the format defines", () => {
    const wrong = [...CODES].filter((code) => !Object.is(values[code], definedValue(code, exponentBits, mantissaBits)));
    expect(wrong, "codes decoded wrongly").toEqual([]);
  });

  test("encodes each decoded value back to its code", () => {
    const encoded = encode(values);
    const wrong = [...CODES].filter((code) => !isNaNCode(code, infinity) && encoded[code] !== code);
    expect(wrong, "codes that changed in the round trip").toEqual([]);
    const lostNaN = [...CODES].filter((code) => isNaNCode(code, infinity) !== isNaNCode(encoded[code]!, infinity));
    expect(lostNaN, "NaN must stay NaN").toEqual([]);
  });

  test("rounds a value between two codes to the nearer one, and ties to the even one", () => {
    const wrong: number[] = [];
    for (let code = 0; code < infinity; code++) {
      const low = values[code]!;
      const high = code + 1 === infinity ? 2 ** (2 ** (exponentBits - 1)) : values[code + 1]!;
      const middle = Math.fround((low + high) / 2);
      const even = code % 2 === 0 ? code : code + 1;
      const [tie, below, above] = encode(Float32Array.of(middle, nextFloat(middle, -1), nextFloat(middle, 1)));
      if (tie !== even || below !== code || above !== code + 1) wrong.push(code);
      if (encode(Float32Array.of(-middle))[0] !== (even | 0x8000)) wrong.push(-code);
    }
    expect(wrong.slice(0, 10), "codes beside which values are rounded wrongly").toEqual([]);
  });

  test("encodes a random value to the nearest code", () => {
    fc.assert(
      fc.property(fc.float({ noNaN: true, noDefaultInfinity: true }), (value) => {
        const code = encode(Float32Array.of(value))[0]!;
        const chosen = values[code]!;
        if (!Number.isFinite(chosen)) return;
        for (const other of [code - 1, code + 1]) {
          const neighbour = values[other & 0xffff]!;
          if (Math.abs(neighbour - value) < Math.abs(chosen - value))
            throw new Error(`${neighbour} is nearer to ${value} than ${chosen}`);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

/** The next float32 away from zero (direction 1) or towards zero (-1). */
function nextFloat(value: number, direction: 1 | -1): number {
  const bits = new Uint32Array(Float32Array.of(value).buffer);
  bits[0] = bits[0]! + direction;
  return new Float32Array(bits.buffer)[0]!;
}

test("decodeF16 decodes a view into a larger buffer", () => {
  const buffer = Uint16Array.of(0, 0x3c00, 0xc000).buffer;
  expect([...decodeF16(new Uint16Array(buffer, 2))]).toEqual([1, -2]);
});
