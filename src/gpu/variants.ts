import type { Launch, Variant } from "../op/launch";

/** Chooses how a launch runs: one of its variants, or undefined for the launch as it is. */
export type VariantChoice = (launch: Launch) => Variant | undefined;

/**
 * `portable`: every launch as it is; `subgroups`: the first variant that is written for the adapter's size of subgroups;
 * `tuned`: what is fastest when tried (gpu/tuning).
 */
export const VARIANT_NAMES = ["portable", "subgroups", "tuned"] as const;
export type VariantName = (typeof VARIANT_NAMES)[number];

/** Below this a launch takes microseconds either way, and its pipeline up to a second to make. */
export const LEAST_FLOPS = 1e6;

/** The choice of a name that asks for no trying. */
export function namedVariants(name: "portable" | "subgroups", { subgroup }: Pick<Adapter, "subgroup">): VariantChoice {
  if (name === "portable" || subgroup === undefined) return () => undefined;
  return ({ variants = [] }) => variants.find((one) => one.subgroup === subgroup && one.flops >= LEAST_FLOPS);
}

/** What an adapter runs untuned: subgroups where it is software, which was measured; portable on GPUs, which were not. */
export function usualVariants(adapter: Adapter): VariantChoice {
  return namedVariants(adapter.isSoftware ? "subgroups" : "portable", adapter);
}

interface Adapter {
  readonly subgroup?: number | undefined;
  readonly isSoftware: boolean;
}

/** A launch and the next as one, where a choice has them run so. */
export function jointLaunch(launch: Launch, next: Launch | undefined, choose: VariantChoice): Launch | undefined {
  const { joint, shape: _, ...first } = launch;
  if (!joint || !next) return undefined;
  const { entry, variables, variants } = joint;
  const bound = Object.entries({ ...next.bindings, ...first.bindings });
  const bindings = Object.fromEntries(bound.filter(([variable]) => variables.includes(variable)));
  const both = { ...first, entry, bindings, variants };
  return choose(both) && chosenLaunch(both, choose);
}

/** A launch as a choice has it run. */
export function chosenLaunch(launch: Launch, choose: VariantChoice): Launch {
  const chosen = choose(launch);
  if (!chosen) return launch;
  const { kernel, constants, workgroups } = chosen;
  return { ...launch, kernel, constants, workgroups };
}
