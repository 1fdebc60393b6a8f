import kernel from "../../../kernels/view.wgsl";
import type { Launch } from "../../op/launch";
import type { Limits } from "../../op/limits";
import { stridedLaunches } from "./strided";

/** Launches that set every element of a tensor to a number. */
export function fillLaunches(slot: string, count: number, value: number, limits: Limits): Launch[] {
  return stridedLaunches(
    {
      kernel,
      entry: "fill",
      axes: [{ size: count, strides: [] }],
      operands: [],
      targets: { strided_out: slot },
      factor: value,
    },
    limits,
  );
}
