import { DtypeError } from "../base/errors";
import { decodeBf16, decodeF16 } from "../base/float";

/** Bytes per element of all element types of safetensors files whose elements are whole bytes. */
const STORED_BYTES: ReadonlyMap<string, number> = new Map([
  ["BOOL", 1],
  ["U8", 1],
  ["I8", 1],
  ["F8_E5M2", 1],
  ["F8_E4M3", 1],
  ["F8_E8M0", 1],
  ["U16", 2],
  ["I16", 2],
  ["F16", 2],
  ["BF16", 2],
  ["U32", 4],
  ["I32", 4],
  ["F32", 4],
  ["U64", 8],
  ["I64", 8],
  ["F64", 8],
  ["C64", 8],
]);

type Decode<T> = (bytes: Uint8Array) => T;

/** Decoders of floats. Views have the machine's byte order: every machine with a GPU is little-endian, as the files are. */
const FLOATS: Readonly<Record<string, Decode<Float32Array>>> = {
  F32: (bytes) => view(bytes, Float32Array),
  F16: (bytes) => decodeF16(view(bytes, Uint16Array)),
  BF16: (bytes) => decodeBf16(view(bytes, Uint16Array)),
  F64: (bytes) => Float32Array.from(view(bytes, Float64Array)),
};

/** Decoders of integers. */
const INTEGERS: Readonly<Record<string, Decode<Int32Array>>> = {
  I32: (bytes) => view(bytes, Int32Array),
  I64: (bytes) => narrow(view(bytes, BigInt64Array)),
  U8: (bytes) => Int32Array.from(bytes),
  BOOL: (bytes) => Int32Array.from(bytes, (byte) => (byte === 0 ? 0 : 1)),
};

/** Element types that `decodeTensor` accepts. */
export const READABLE_DTYPES: readonly string[] = [...Object.keys(FLOATS), ...Object.keys(INTEGERS)];

/** Bytes per element of a stored type; undefined for an unknown type. */
export function storedBytes(dtype: string): number | undefined {
  return STORED_BYTES.get(dtype);
}

/**
 * Decodes stored bytes as f32 (F32, F16, BF16, and F64, rounded) or i32 (I32, I64, U8, BOOL). For F32 and I32 the result
 * shares the memory of `bytes`.
 * @param what the tensor, for error messages.
 * @throws DtypeError for other types, and for an I64 beyond 32 bits.
 */
export function decodeTensor(dtype: string, bytes: Uint8Array, what: string): Float32Array | Int32Array {
  const decode = Object.hasOwn(FLOATS, dtype)
    ? FLOATS[dtype]
    : Object.hasOwn(INTEGERS, dtype)
      ? INTEGERS[dtype]
      : undefined;
  if (decode === undefined) {
    throw new DtypeError(
      `${what} is stored as ${dtype}, which is not supported.`,
      `Convert it to one of ${READABLE_DTYPES.join(", ")}.`,
    );
  }
  try {
    return decode(bytes);
  } catch (cause) {
    if (!(cause instanceof NarrowingError)) throw cause;
    throw new DtypeError(
      `${what} has ${cause.value} as its element ${cause.index}, which does not fit in 32 bits.`,
      "Store integers that fit in 32 bits.",
    );
  }
}

/** An integer that does not fit in 32 bits. */
class NarrowingError extends Error {
  constructor(
    readonly value: bigint,
    readonly index: number,
  ) {
    super();
  }
}

function narrow(values: BigInt64Array): Int32Array {
  const result = new Int32Array(values.length);
  for (let i = 0; i < result.length; i++) {
    const value = values[i]!;
    if (value !== BigInt.asIntN(32, value)) throw new NarrowingError(value, i);
    result[i] = Number(value);
  }
  return result;
}

interface ArrayType<T> {
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: ArrayBufferLike, offset: number, length: number): T;
}

function view<T>(bytes: Uint8Array, type: ArrayType<T>): T {
  const aligned = bytes.byteOffset % type.BYTES_PER_ELEMENT === 0 ? bytes : new Uint8Array(bytes);
  return new type(aligned.buffer, aligned.byteOffset, aligned.byteLength / type.BYTES_PER_ELEMENT);
}
