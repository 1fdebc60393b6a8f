import code from "../../kernels/pack.wgsl";
import { bindRows, rowRanges } from "./launch";
import type { Launch } from "./launch";
import type { Limits } from "./limits";

const kernel = { name: "pack", code };
const GROUP = 64;
const PER_INVOCATION = 4;

/** How activations are kept from forward to backward. */
export type ActivationFormat = "f32" | "f16" | "bf16";

/** Every one of them. */
export const ACTIVATION_FORMATS: readonly ActivationFormat[] = ["f32", "f16", "bf16"];

/** `packed` from `x`, or `x` from `packed`: `count` values in 16 bits each, two a word. */
export function packLaunches(
  entry: "pack" | "unpack",
  count: number,
  format: Exclude<ActivationFormat, "f32">,
  limits: Limits,
): Launch[] {
  const words = Math.ceil(count / 2);
  return rowRanges(words, [8, 4], limits).map((range) => {
    const values = Math.min(range.count * 2, count - range.start * 2);
    return {
      kernel,
      entry,
      constants: { PER_INVOCATION, FORMAT: ACTIVATION_FORMATS.indexOf(format) },
      bindings: {
        x: { slot: "x", offset: range.start * 8, bytes: values * 4 },
        words: bindRows("packed", range, 4),
      },
      params: { count: values },
      workgroups: Math.ceil(range.count / (GROUP * PER_INVOCATION)),
    };
  });
}
