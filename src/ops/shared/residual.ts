import type { Absorption } from "../../op/launch";

/** The sum with a residual that a norm takes over, by the norm's entry. Both write the sum into the buffer of its first summand. */
export const ABSORBED_SUMS: Readonly<Record<string, Absorption>> = {
  forward: { kernel: "add", entry: "forward_in_place", by: "add_forward", variables: { b: "residual", y: "x" } },
  forward_in_place: {
    kernel: "add",
    entry: "forward_in_place",
    by: "add_forward_in_place",
    variables: { b: "residual", y: "y" },
  },
};
