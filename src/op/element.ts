import vec4 from "../../kernels/lib/element_vec4.wgsl";
import { substituting } from "./kernel";
import type { Kernel } from "./kernel";
import type { Variant } from "./launch";

/** Invocations of a workgroup. */
const GROUP = 64;

const onVectors = new WeakMap<Kernel, Kernel>();

/** What a kernel that imports lib/element reads at once: vectors of four numbers, or numbers. */
export interface ElementKernel {
  readonly kernel: Kernel;
  readonly constants: { readonly WIDTH: number };
}

/** The form of a kernel that imports lib/element for tensors of these sizes: vectors where all are multiples of four. */
export function elementKernel(kernel: Kernel, sizes: readonly number[]): ElementKernel {
  if (sizes.some((size) => size % 4 !== 0)) return { kernel, constants: { WIDTH: 1 } };
  const vectors = onVectors.get(kernel) ?? substituting(kernel, { "lib/element": vec4 });
  onVectors.set(kernel, vectors);
  return { kernel: vectors, constants: { WIDTH: 4 } };
}

/** Workgroups in which each invocation has one element. */
export function elementWorkgroups(count: number, { constants }: ElementKernel): number {
  return Math.ceil(count / (GROUP * constants.WIDTH));
}

/**
 * How GPUs run a launch that sums over rows, if these sizes are multiples of four: by vectors of four numbers. Software adapters
 * keep single numbers, since sums of vectors have another order.
 */
export function vectorVariants(
  kernel: Kernel,
  sizes: readonly number[],
  { workgroups, flops }: Pick<Variant, "workgroups" | "flops">,
): Variant[] {
  const element = elementKernel(kernel, sizes);
  if (element.constants.WIDTH === 1) return [];
  return [{ ...element, name: "vectors of four", workgroups, flops, gpu: true, rounds: true }];
}
