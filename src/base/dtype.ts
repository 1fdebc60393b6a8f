/** The element types of tensors on the device. What files store is wider: see `io/stored-dtype`. */
export type Dtype = "f32" | "f16" | "bf16" | "i32" | "u32";

const BYTES: Readonly<Record<Dtype, number>> = { f32: 4, f16: 2, bf16: 2, i32: 4, u32: 4 };

/** Every element type, in one list. */
export const DTYPES = Object.keys(BYTES) as readonly Dtype[];

/** Bytes of one element. */
export function bytesPerElement(dtype: Dtype): number {
  return BYTES[dtype];
}

/** True for the types that hold fractions. */
export function isFloat(dtype: Dtype): boolean {
  return dtype === "f32" || dtype === "f16" || dtype === "bf16";
}
