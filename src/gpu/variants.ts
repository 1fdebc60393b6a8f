import type { Launch, Variant } from "../op/launch";

/** Chooses how a launch runs: one of its variants, or undefined for the launch as it is. */
export type VariantChoice = (launch: Launch) => Variant | undefined;

/** The first variant that is written for subgroups of this size. */
export const fittingVariant =
  (subgroup: number | undefined): VariantChoice =>
  ({ variants = [] }) =>
    variants.find((variant) => variant.subgroup === undefined || variant.subgroup === subgroup);

/** A launch as a choice has it run. */
export function chosenLaunch(launch: Launch, choose: VariantChoice): Launch {
  const chosen = choose(launch);
  if (!chosen) return launch;
  const { kernel, constants, workgroups } = chosen;
  return { ...launch, kernel, constants, workgroups };
}
