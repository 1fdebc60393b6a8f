import { elements } from "../../base/shape";
import type { Shape } from "../../base/shape";
import type { ReferenceTensor } from "../../op/declaration";
import { stridesOf } from "./strided";
import { broadcastStrides } from "./broadcast";

/** A tensor that broadcasts to `shape`, in that shape. */
export function broadcastReference({ shape: from, data }: ReferenceTensor, shape: Shape): ReferenceTensor {
  const [strides, places] = [broadcastStrides(from, shape), stridesOf(shape)];
  const at = (i: number): number =>
    shape.reduce((sum, size, axis) => sum + (Math.floor(i / places[axis]!) % size) * strides[axis]!, 0);
  return { shape, data: Float64Array.from({ length: elements(shape) }, (_, i) => data[at(i)]!) };
}
