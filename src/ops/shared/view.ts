import kernel from "../../../kernels/view.wgsl";
import type { Launch } from "../../op/launch";
import type { Limits } from "../../op/limits";
import { stridedLaunches } from "./strided";
import type { StridedAxis } from "./strided";

/** Elements of a tensor in the order of a packed one: those at the places that axes and `start` say. */
export interface View {
  /** Slots of the packed tensor and of the one that is viewed. */
  readonly packed: string;
  readonly viewed: string;
  /** Elements of the viewed tensor. */
  readonly count: number;
  /** Axes of the packed tensor, with their steps in the viewed one. */
  readonly axes: readonly StridedAxis[];
  readonly start?: number;
  /** Default 1. */
  readonly factor?: number;
}

type Context = { readonly limits: Limits; readonly accumulate: boolean };

/** Launches of packed (+)= factor * viewed. */
export function gatherLaunches({ packed, viewed, count, start = 0, ...view }: View, context: Context): Launch[] {
  const { limits, accumulate } = context;
  const operands = [{ variable: "strided_in", slot: viewed, count, start }];
  const targets = { packed_out: packed };
  return stridedLaunches({ kernel, entry: "gather", ...view, operands, targets, accumulate }, limits);
}

/** Launches that write packed, times factor, to the places in viewed, which must differ, or add it there. */
export function scatterLaunches({ packed, viewed, count, start = 0, ...view }: View, context: Context): Launch[] {
  const { limits, accumulate } = context;
  const operands = [{ variable: "strided_out", slot: viewed, count, start }];
  const targets = { packed_in: packed };
  return stridedLaunches({ kernel, entry: "scatter", ...view, operands, targets, accumulate }, limits);
}
