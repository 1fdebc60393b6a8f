import type { Launch, Variant } from "../op/launch";

/** Chooses how a launch runs: one of its variants, or undefined for the launch as it is. */
export type VariantChoice = (launch: Launch) => Variant | undefined;

/** Every launch as it is, or the first variant that is written for the adapter's size of subgroups. */
export const VARIANT_NAMES = ["portable", "subgroups"] as const;
export type VariantName = (typeof VARIANT_NAMES)[number];

/** Below this a launch takes microseconds either way, and its pipeline up to a second to make. */
const LEAST_FLOPS = 1e6;

/**
 * The choice of a name. Default: what is measured to be faster, which is subgroups on software adapters; on GPUs neither was
 * measured, and the portable kernels run.
 */
export function namedVariants(name: VariantName | undefined, { subgroup, isSoftware }: Adapter): VariantChoice {
  const wanted = name ?? (isSoftware ? "subgroups" : "portable");
  if (wanted === "portable" || subgroup === undefined) return () => undefined;
  return ({ variants = [] }) => variants.find((one) => one.subgroup === subgroup && one.flops >= LEAST_FLOPS);
}

interface Adapter {
  readonly subgroup?: number;
  readonly isSoftware: boolean;
}

/** A launch as a choice has it run. */
export function chosenLaunch(launch: Launch, choose: VariantChoice): Launch {
  const chosen = choose(launch);
  if (!chosen) return launch;
  const { kernel, constants, workgroups } = chosen;
  return { ...launch, kernel, constants, workgroups };
}
