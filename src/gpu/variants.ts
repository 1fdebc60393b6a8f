import type { Launch, Variant } from "../op/launch";

/** Chooses the variant by which a launch runs; undefined for the launch itself. */
export type VariantChoice = (launch: Launch) => Variant | undefined;

/**
 * Which kernels run. `portable`: no variants; `subgroups`: the first variant that is written for the adapter's subgroup size;
 * `tuned`: the fastest one by measurement (gpu/tuning).
 */
export const VARIANT_NAMES = ["portable", "subgroups", "tuned"] as const;
export type VariantName = (typeof VARIANT_NAMES)[number];

/**
 * FLOPs below which no variant is used: such a launch takes microseconds in any case, and another pipeline takes up to a
 * second to compile.
 */
export const LEAST_FLOPS = 1e6;

/** The choice for a name that needs no measurements. */
export function namedVariants(name: "portable" | "subgroups", { subgroup }: Pick<Adapter, "subgroup">): VariantChoice {
  if (name === "portable" || subgroup === undefined) return () => undefined;
  return ({ variants = [] }) =>
    variants.find((variant) => variant.subgroup === subgroup && variant.flops >= LEAST_FLOPS);
}

/** The choice without tuning: subgroups on software adapters, where they were measured to be faster; portable on GPUs. */
export function usualVariants(adapter: Adapter): VariantChoice {
  return namedVariants(adapter.isSoftware ? "subgroups" : "portable", adapter);
}

interface Adapter {
  readonly subgroup?: number | undefined;
  readonly isSoftware: boolean;
}

/** One dispatch for a launch and the next one, if `choose` picks a variant for it. */
export function jointLaunch(launch: Launch, next: Launch | undefined, choose: VariantChoice): Launch | undefined {
  const { joint, shape: _, ...first } = launch;
  if (!joint || !next) return undefined;
  const { entry, variables, variants } = joint;
  const bound = Object.entries({ ...next.bindings, ...first.bindings });
  const bindings = Object.fromEntries(bound.filter(([variable]) => variables.includes(variable)));
  const both = { ...first, entry, bindings, variants };
  return choose(both) && chosenLaunch(both, choose);
}

/** A launch with its chosen variant applied. */
export function chosenLaunch(launch: Launch, choose: VariantChoice): Launch {
  const variant = choose(launch);
  if (!variant) return launch;
  const { kernel, constants, workgroups } = variant;
  return { ...launch, kernel, constants, workgroups };
}
