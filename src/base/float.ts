/**
 * Conversion of arrays between f32 and the 16-bit formats f16 (IEEE binary16) and bf16 (bfloat16). Decoding is exact.
 * Encoding rounds to nearest, ties to even, as PyTorch does. NaN and infinities are preserved. A code is the 16 bits of
 * one value as an unsigned integer.
 */

/** [n] f16 codes -> [n] f32 values. */
export function decodeF16(codes: Uint16Array): Float32Array {
  const table = f16Table();
  const bits = new Uint32Array(codes.length);
  for (let i = 0; i < codes.length; i++) bits[i] = table[codes[i]!]!;
  return new Float32Array(bits.buffer);
}

/** [n] bf16 codes -> [n] f32 values. A bf16 is the upper half of an f32. */
export function decodeBf16(codes: Uint16Array): Float32Array {
  const bits = new Uint32Array(codes.length);
  for (let i = 0; i < codes.length; i++) bits[i] = codes[i]! << 16;
  return new Float32Array(bits.buffer);
}

/** [n] f32 values -> [n] f16 codes. Magnitudes from 65520 become infinity. */
export function encodeF16(values: Float32Array): Uint16Array {
  return encode(values, f16FromBits);
}

/** [n] f32 values -> [n] bf16 codes. */
export function encodeBf16(values: Float32Array): Uint16Array {
  return encode(values, bf16FromBits);
}

function encode(values: Float32Array, fromBits: (bits: number) => number): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const codes = new Uint16Array(values.length);
  for (let i = 0; i < codes.length; i++) codes[i] = fromBits(bits[i]!);
  return codes;
}

let cachedTable: Uint32Array | undefined;

/** The f32 bits of every f16 code: 256 KiB, computed on first use. */
function f16Table(): Uint32Array {
  cachedTable ??= Uint32Array.from({ length: 65536 }, (_, code) => bitsFromF16(code));
  return cachedTable;
}

function bitsFromF16(code: number): number {
  const sign = (code & 0x8000) << 16;
  const exponent = (code >>> 10) & 0x1f;
  const mantissa = code & 0x3ff;
  if (exponent === 0x1f) return sign | 0x7f800000 | (mantissa << 13);
  if (exponent > 0) return sign | ((exponent + 112) << 23) | (mantissa << 13);
  if (mantissa === 0) return sign;
  // A subnormal is mantissa * 2^-24. Its highest set bit becomes the implicit leading bit of f32.
  const highest = 31 - Math.clz32(mantissa);
  return sign | ((highest + 103) << 23) | ((mantissa << (23 - highest)) & 0x7fffff);
}

function f16FromBits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x47800000) return sign | 0x7c00;
  // A carry out of the mantissa increments the exponent, which is correct up to and including infinity.
  if (magnitude >= 0x38800000) return sign | roundShift(magnitude - 0x38000000, 13);
  const exponent = magnitude >>> 23;
  const shift = 126 - exponent;
  return shift > 24 ? sign : sign | roundShift((magnitude & 0x7fffff) | 0x800000, shift);
}

function bf16FromBits(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return roundShift(bits, 16);
}

/** bits / 2^shift, rounded to nearest, ties to even. `shift` is 1 to 24. */
function roundShift(bits: number, shift: number): number {
  const quotient = bits >>> shift;
  const remainder = bits & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  return remainder > half || (remainder === half && (quotient & 1) === 1) ? quotient + 1 : quotient;
}
