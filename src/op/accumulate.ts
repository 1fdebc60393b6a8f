import kernel from "../../kernels/accumulate.wgsl";
import { elementKernel, elementWorkgroups } from "./element";
import { bindRows, rowRanges } from "./launch";
import type { Launch } from "./launch";
import type { Limits } from "./limits";

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
  const element = elementKernel(kernel, [count]);
  return rowRanges(count, [4], limits).map((range) => ({
    ...element,
    entry: "forward",
    bindings: { source: bindRows(source, range, 4), target_: bindRows(target, range, 4) },
    params: { count: range.count, accumulate: add ? 1 : 0 },
    workgroups: elementWorkgroups(range.count, element),
  }));
}
