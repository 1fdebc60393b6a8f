import { formatShape } from "../base/shape";
import type { Plan, SavedValue } from "./plan";
import type { Keeper } from "./saves";
import type { Tape } from "./tape";

/** One kept activation, in words. */
export interface KeptValue {
  /** Where it is made, as `bert.encoder.layer.0.attention.self.query`. */
  readonly label: string;
  /** Op and output slot, as `lora_linear.z`. */
  readonly value: string;
  readonly shape: readonly number[];
  readonly bytes: number;
  /** The gradients that read it: parameter names, or where a gradient only passes through. */
  readonly keptFor: readonly string[];
}

/** What a plan keeps from forward to backward, and why. */
export interface Explanation {
  readonly kept: readonly KeptValue[];
  readonly keptBytes: number;
  /** The lowest label whose gradient is computed: below it nothing is kept and no backward pass runs. */
  readonly horizon: string | undefined;
  /** A table of the above, one value a line. */
  toString(): string;
}

/** Explains what `plan` (made from `tape`) keeps. */
export function explain(tape: Tape, plan: Plan): Explanation {
  const kept = plan.saved.map((saved) => keptValue(tape, saved));
  const keptBytes = kept.reduce((sum, value) => sum + value.bytes, 0);
  const horizon = plan.launches.findLast((launch) => launch.phase === "backward")?.node.label;
  return { kept, keptBytes, horizon, toString: () => table(kept, keptBytes, horizon) };
}

function keptValue(tape: Tape, saved: SavedValue): KeptValue {
  const slot = saved.value.origin.kind === "node" ? saved.value.origin.slot : "";
  return {
    label: saved.producer.label,
    value: `${saved.producer.op.name}.${slot}`,
    shape: saved.value.shape,
    bytes: saved.bytes,
    keptFor: [...new Set(saved.keepers.flatMap((keeper) => reasons(tape, keeper)))],
  };
}

function reasons(tape: Tape, keeper: Keeper): string[] {
  if (keeper.recomputes !== undefined) return [`recomputing ${keeper.recomputes}`];
  return keeper.slots.map((slot) => {
    const origin = tape.values[keeper.node.inputs[slot]!]?.origin;
    return origin?.kind === "parameter"
      ? origin.name
      : `through ${keeper.node.label} (${keeper.node.op.name} d${slot})`;
  });
}

function table(kept: readonly KeptValue[], keptBytes: number, horizon: string | undefined): string {
  const lines = kept.map(
    (value) =>
      `${String(value.bytes).padStart(12)} B  ${value.label}  ${value.value} ${formatShape(value.shape)}  for ${value.keptFor.join(", ")}`,
  );
  return [
    ...lines,
    `${String(keptBytes).padStart(12)} B  kept in all, ${kept.length} values`,
    horizon ? `The backward pass ends at ${horizon}.` : "No backward pass runs.",
  ].join("\n");
}
