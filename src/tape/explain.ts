import { formatShape } from "../base/shape";
import type { Plan, SavedValue } from "./plan";
import type { Keeper } from "./saves";
import type { Tape } from "./tape";

/** An activation that is kept for the backward pass, described by names. */
export interface KeptValue {
  /** The part of the model that computes it, such as `bert.encoder.layer.0.attention.self.query`. */
  readonly label: string;
  /** Op and output slot, such as `lora_linear.z`. */
  readonly value: string;
  readonly shape: readonly number[];
  readonly bytes: number;
  /** The gradients that read it: parameter names, or the node through which a gradient passes. */
  readonly keptFor: readonly string[];
}

/** What a plan keeps from the forward to the backward pass, and why. */
export interface Explanation {
  readonly kept: readonly KeptValue[];
  readonly keptBytes: number;
  /** Label of the lowest node that is differentiated; below it nothing is kept. Undefined without a backward pass. */
  readonly horizon: string | undefined;
  /** All of this as a table, one value a line. */
  toString(): string;
}

/** Explains what a plan of `tape` keeps for its backward pass. */
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
