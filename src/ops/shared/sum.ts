import kernel from "../../../kernels/reduce.wgsl";
import { elements } from "../../base/shape";
import type { Shape } from "../../base/shape";
import type { Launch } from "../../op/launch";
import type { Limits } from "../../op/limits";
import { reducingAxes } from "./broadcast";
import { stridedLaunches } from "./strided";

/** A sum over the axes along which the target would be repeated to have the source's shape. */
export interface Sum {
  readonly source: string;
  readonly shape: Shape;
  readonly target: string;
  readonly targetShape: Shape;
  /** Default 1. */
  readonly factor?: number;
}

/** Launches of target (+)= factor * sum of source. */
export function sumLaunches(
  { source, shape, target, targetShape, factor }: Sum,
  { limits, accumulate }: { readonly limits: Limits; readonly accumulate: boolean },
): Launch[] {
  return stridedLaunches(
    {
      kernel,
      entry: "sum",
      ...reducingAxes(shape, targetShape, [shape]),
      operands: [{ variable: "x", slot: source, count: elements(shape) }],
      targets: { total: target },
      ...(factor !== undefined && { factor }),
      accumulate,
    },
    limits,
  );
}
