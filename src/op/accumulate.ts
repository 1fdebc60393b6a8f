import kernel from "../../kernels/accumulate.wgsl";
import { bindRows, rowRanges } from "./launch";
import type { Launch } from "./launch";
import type { Limits } from "./limits";

const GROUP = 64;

/**
 * Launches of `target = source`, or `target += source` if `add`, for `count` f32 elements. Used to add two gradients of
 * one value when neither of their kernels can accumulate.
 */
export function accumulateLaunches(
  source: string,
  target: string,
  count: number,
  add: boolean,
  limits: Limits,
): Launch[] {
  return rowRanges(count, [4], limits).map((range) => ({
    kernel,
    entry: "forward",
    bindings: { source: bindRows(source, range, 4), target_: bindRows(target, range, 4) },
    params: { count: range.count, accumulate: add ? 1 : 0 },
    workgroups: Math.ceil(range.count / GROUP),
  }));
}
