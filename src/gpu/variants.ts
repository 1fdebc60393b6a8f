import type { KernelFeature, Launch, Variant } from "../op/launch";

/** Chooses the variant by which a launch runs; undefined for the launch itself. */
export type VariantChoice = (launch: Launch) => Variant | undefined;

/**
 * Which kernels run. `portable`: no variants; `subgroups`: the first variant that is written for the adapter's subgroup size;
 * `gpu`: the first one that is marked for GPUs and that the adapter can run; `tuned`: the fastest one by measurement
 * (gpu/tuning).
 */
export const VARIANT_NAMES = ["portable", "subgroups", "gpu", "tuned"] as const;
export type VariantName = (typeof VARIANT_NAMES)[number];

/** A name that needs no measurements. */
export type FixedVariantName = Exclude<VariantName, "tuned">;

/** What the choice of kernels depends on; the part of `AdapterInfo` that it reads. */
export interface KernelAdapter {
  readonly vendor: string;
  readonly isSoftware: boolean;
  readonly subgroup?: number | undefined;
  readonly features?: readonly KernelFeature[];
}

/**
 * FLOPs below which no variant is used: such a launch takes microseconds in any case, and another pipeline takes up to a
 * second to compile.
 */
export const LEAST_FLOPS = 1e6;

/**
 * What runs by default: the first row that applies to an adapter. Nothing is measured on the adapter, so that everyone who has
 * it gets the same bits.
 */
const DEFAULTS: readonly (Partial<Pick<KernelAdapter, "vendor" | "isSoftware">> & {
  readonly variants: FixedVariantName;
})[] = [
  // Measured on llvmpipe and SwiftShader (bench/results).
  { isSoftware: true, variants: "subgroups" },
  // Arm's GPUs keep workgroup memory in main memory, so that copying tiles there costs what it should save (Arm Mali GPU OpenCL
  // Developer Guide, "The Mali GPU OpenCL memory model"). The portable kernels do without.
  { vendor: "arm", variants: "portable" },
  // Marks follow from what a GPU's compiler makes of a kernel (bench:isa).
  { variants: "gpu" },
];

/** Whether an adapter has what a variant needs. */
export function canRun(
  { subgroup, needs = [] }: Variant,
  adapter: Omit<KernelAdapter, "vendor" | "isSoftware">,
): boolean {
  const fits = subgroup === undefined || subgroup === adapter.subgroup;
  return fits && needs.every((feature) => adapter.features?.includes(feature));
}

/**
 * The choice for a name that needs no measurements.
 * @param leastFlops FLOPs below which no variant is used.
 */
export function namedVariants(
  name: FixedVariantName,
  adapter: KernelAdapter,
  leastFlops: number = LEAST_FLOPS,
): VariantChoice {
  if (name === "portable") return () => undefined;
  const isMeant = ({ subgroup, gpu = false }: Variant): boolean => (name === "gpu" ? gpu : subgroup !== undefined);
  return ({ variants = [] }) =>
    variants.find((variant) => isMeant(variant) && canRun(variant, adapter) && variant.flops >= leastFlops);
}

/** The choice without tuning, by a table: the same for everyone with this adapter. */
export function usualVariants(adapter: KernelAdapter): VariantChoice {
  const row = DEFAULTS.find(
    ({ vendor = adapter.vendor, isSoftware = adapter.isSoftware }) =>
      vendor === adapter.vendor && isSoftware === adapter.isSoftware,
  );
  return namedVariants(row?.variants ?? "portable", adapter);
}

/**
 * A choice that takes products in 16 bits where a launch has them and the adapter can run them, and else what `choose` takes.
 * @param leastFlops FLOPs below which they are not used.
 */
export function withHalfProducts(
  choose: VariantChoice,
  adapter: KernelAdapter,
  leastFlops: number = LEAST_FLOPS,
): VariantChoice {
  const isMeant = (variant: Variant): boolean =>
    variant.half === true && canRun(variant, adapter) && variant.flops >= leastFlops;
  return (launch) => launch.variants?.find(isMeant) ?? choose(launch);
}

/** A launch with its chosen variant applied. */
export function chosenLaunch(launch: Launch, choose: VariantChoice): Launch {
  const variant = choose(launch);
  if (!variant) return launch;
  const { kernel, constants, workgroups } = variant;
  return { ...launch, kernel, constants, workgroups };
}

/** The variant that was applied to a launch; undefined for the launch itself. */
export function appliedVariant({ kernel, constants, variants = [] }: Launch): Variant | undefined {
  return variants.find((variant) => variant.kernel === kernel && variant.constants === constants);
}
