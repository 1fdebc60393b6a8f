import { rowBytes } from "./packed";
import type { WeightFormat } from "./packed";
import { elements } from "./shape";
import type { Shape } from "./shape";

/**
 * Element type of a tensor on the device. Only frozen weights have types other than f32, i32 and u32. Files may store
 * more types: see `io/stored-dtype`.
 */
export type Dtype = WeightFormat | "i32" | "u32";

/** Host data that a tensor can be filled with. */
export type TensorData = Float32Array | Int32Array | Uint32Array;

/** Bytes that a tensor takes on the device. Each row of a quantised tensor is stored with its scales. */
export function tensorBytes(dtype: Dtype, shape: Shape): number {
  const count = elements(shape);
  if (dtype === "i32" || dtype === "u32") return count * 4;
  const columns = shape.at(-1) ?? 1;
  return (count / columns) * rowBytes(dtype, columns);
}
