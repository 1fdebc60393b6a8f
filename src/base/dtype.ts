import { rowBytes } from "./packed";
import type { WeightFormat } from "./packed";
import { elements } from "./shape";
import type { Shape } from "./shape";

/**
 * The element types of tensors on the device; all but f32, i32 and u32 belong to frozen weights alone. What files store is
 * wider: see `io/stored-dtype`.
 */
export type Dtype = WeightFormat | "i32" | "u32";

/** Bytes of a tensor; quantised ones are stored row by row, each with its scales. */
export function tensorBytes(dtype: Dtype, shape: Shape): number {
  const count = elements(shape);
  if (dtype === "i32" || dtype === "u32") return count * 4;
  const columns = shape.at(-1) ?? 1;
  return (count / columns) * rowBytes(dtype, columns);
}
