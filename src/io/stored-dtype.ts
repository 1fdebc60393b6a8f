import { DtypeError } from "../base/errors";
import { decodeBf16, decodeF16 } from "../base/float";

/** Bytes of one element, for every element type that safetensors files name and that fills whole bytes. */
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

/** Views on little-endian bytes: every machine with a GPU is little-endian. */
const FLOATS: Readonly<Record<string, Decode<Float32Array>>> = {
  F32: (bytes) => view(bytes, Float32Array),
  F16: (bytes) => decodeF16(view(bytes, Uint16Array)),
  BF16: (bytes) => decodeBf16(view(bytes, Uint16Array)),
  F64: (bytes) => Float32Array.from(view(bytes, Float64Array)),
};

const INTEGERS: Readonly<Record<string, Decode<Int32Array>>> = {
  I32: (bytes) => view(bytes, Int32Array),
  I64: (bytes) => narrow(view(bytes, BigInt64Array)),
  U8: (bytes) => Int32Array.from(bytes),
  BOOL: (bytes) => Int32Array.from(bytes, (byte) => (byte === 0 ? 0 : 1)),
};

/** The names that `decodeTensor` accepts. */
export const READABLE_DTYPES: readonly string[] = [...Object.keys(FLOATS), ...Object.keys(INTEGERS)];

/** Bytes of one element of a stored type; undefined for a type that is not known. */
export function storedBytes(dtype: string): number | undefined {
  return STORED_BYTES.get(dtype);
}

/**
 * Stored bytes as f32 (from F32, F16, BF16, and F64, rounded) or i32 (from I32, I64, U8, BOOL). F32 and I32 share the
 * bytes' memory. Throws DtypeError for other types, and for an I64 that does not fit; `what` names the tensor.
 */
export function decodeTensor(dtype: string, bytes: Uint8Array, what: string): Float32Array | Int32Array {
  const decode = Object.hasOwn(FLOATS, dtype)
    ? FLOATS[dtype]
    : Object.hasOwn(INTEGERS, dtype)
      ? INTEGERS[dtype]
      : undefined;
  if (decode === undefined) {
    throw new DtypeError(
      `${what} is stored as ${dtype}, which cannot be read`,
      `convert it to one of ${READABLE_DTYPES.join(", ")}`,
    );
  }
  try {
    return decode(bytes);
  } catch (cause) {
    if (!(cause instanceof NarrowingError)) throw cause;
    throw new DtypeError(
      `${what} holds ${cause.value} at element ${cause.index}, beyond 32 bits`,
      "integers are read as i32: store smaller ones",
    );
  }
}

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
