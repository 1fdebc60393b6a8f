import type { AbsorbedLaunch, Absorption } from "../../op/launch";

/** A sum with a residual, written into the buffer of its first summand, whose variables a norm calls `sum` and `residual`. */
const summing = (sum: string, residual: string): AbsorbedLaunch => {
  return { kernel: "add", entry: "forward_in_place", variables: { b: residual, y: sum } };
};

const addition = (by: string, sum: string, residual: string): Absorption => ({ before: [summing(sum, residual)], by });

/** The sums that a norm takes over, by the norm's entry. Where nothing reads the residual later, its buffer may be the norm's output. */
export const ABSORBED_SUMS: Readonly<Record<string, readonly Absorption[]>> = {
  forward: [addition("add_forward", "x", "residual"), addition("add_y_forward", "x", "y")],
  forward_in_place: [addition("add_forward_in_place", "y", "residual")],
};

/** Dropout of the first summand, and of the gradient that it gets, which a layer norm takes over as well. */
export const ABSORBED_DROPOUTS: Readonly<Record<string, readonly Absorption[]>> = {
  forward_in_place: [
    {
      before: [
        { kernel: "dropout", entry: "forward_in_place", variables: { y: "y", seed: "seed" }, params: "dropout_params" },
        summing("y", "residual"),
      ],
      by: "add_dropped_forward_in_place",
    },
  ],
  grad_x_from_y_in_place: [
    {
      after: [
        {
          kernel: "dropout",
          entry: "grad_x",
          variables: { dy: "dx", dx: "dropped_dx", seed: "seed" },
          params: "dropout_params",
        },
      ],
      by: "grad_x_from_y_in_place_dropped",
    },
  ],
};
