import kernel from "../../kernels/pack.wgsl";
import { elementKernel, elementWorkgroups } from "./element";
import { bindRows, rowRanges } from "./launch";
import type { Launch } from "./launch";
import type { Limits } from "./limits";

/** Words of an invocation. */
const WORDS = 4;

/** Format in which activations are kept from the forward to the backward pass. */
export type ActivationFormat = "f32" | "f16" | "bf16";

/** Every activation format. An index into this list is the kernel's `FORMAT`. */
export const ACTIVATION_FORMATS: readonly ActivationFormat[] = ["f32", "f16", "bf16"];

/** Launches that convert `count` values between slots `x` (f32) and `packed` (16 bits each, two a 32-bit word). */
export function packLaunches(
  entry: "pack" | "unpack",
  count: number,
  format: Exclude<ActivationFormat, "f32">,
  limits: Limits,
): Launch[] {
  const words = Math.ceil(count / 2);
  const element = elementKernel(kernel, [count / 2]);
  const perInvocation = WORDS / element.constants.WIDTH;
  return rowRanges(words, [8, 4], limits).map((range) => {
    const values = Math.min(range.count * 2, count - range.start * 2);
    return {
      kernel: element.kernel,
      entry,
      constants: { ...element.constants, PER_INVOCATION: perInvocation, FORMAT: ACTIVATION_FORMATS.indexOf(format) },
      bindings: {
        x: { slot: "x", offset: range.start * 8, bytes: values * 4 },
        words: bindRows("packed", range, 4),
      },
      params: { count: values },
      workgroups: Math.ceil(elementWorkgroups(range.count, element) / perInvocation),
    };
  });
}
