import type { Absorption } from "../../op/launch";

/** A sum with a residual, written into the buffer of its first summand, whose variables a norm calls `sum` and `residual`. */
const addition = (by: string, sum: string, residual: string): Absorption => ({
  before: [{ kernel: "add", entry: "forward_in_place", variables: { b: residual, y: sum } }],
  by,
});

/** The sums that a norm takes over, by the norm's entry. Where nothing reads the residual later, its buffer may be the norm's output. */
export const ABSORBED_SUMS: Readonly<Record<string, readonly Absorption[]>> = {
  forward: [addition("add_forward", "x", "residual"), addition("add_y_forward", "x", "y")],
  forward_in_place: [addition("add_forward_in_place", "y", "residual")],
};
