import { elements } from "../../base/shape";
import type { ReferenceTensor } from "../../op/declaration";
import { broadcastStrides } from "./broadcast";
import { stridesOf } from "./strided";
import { keptShape, reducedShape } from "./axes";
import type { AxesAttributes } from "./axes";

/** A reduction in plain loops: `of` gets the numbers of each element of the output, in their order. */
export function reductionReference(
  x: ReferenceTensor,
  attributes: AxesAttributes,
  of: (values: readonly number[]) => number,
): ReferenceTensor {
  const kept = keptShape(x.shape, attributes);
  const values = Array.from({ length: elements(kept) }, (): number[] => []);
  const [places, strides] = [stridesOf(x.shape), broadcastStrides(kept, x.shape)];
  x.data.forEach((value, i) => {
    const place = x.shape.reduce((at, size, axis) => at + (Math.floor(i / places[axis]!) % size) * strides[axis]!, 0);
    values[place]!.push(value);
  });
  return { shape: reducedShape(x.shape, attributes), data: Float64Array.from(values, of) };
}
