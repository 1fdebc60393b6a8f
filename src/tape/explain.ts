import { formatShape } from "../base/shape";
import { specBytes } from "./emit";
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

/** States of reversible layers that a plan rebuilds from those that it keeps. */
export interface Rebuilt {
  readonly values: number;
  readonly bytes: number;
  /** Bytes that would be kept in all by plain recomputation of the same layers, from what enters each. */
  readonly keptByRecomputation: number;
}

/** What a plan keeps from the forward to the backward pass, and why. */
export interface Explanation {
  readonly kept: readonly KeptValue[];
  readonly keptBytes: number;
  /** What reversible layers rebuild instead of keeping; undefined without any. */
  readonly rebuilt: Rebuilt | undefined;
  /** Label of the lowest node that is differentiated; below it nothing is kept. Undefined without a backward pass. */
  readonly horizon: string | undefined;
  /** All of this as a table, one value a line. */
  toString(): string;
}

/**
 * Explains what a plan of `tape` keeps for its backward pass.
 * @param plain the plan that rebuilds nothing, for plans with reversible layers.
 */
export function explain(tape: Tape, plan: Plan, plain: Plan = plan): Explanation {
  const kept = plan.saved.map((saved) => keptValue(tape, saved));
  const sum = (values: readonly { readonly bytes: number }[]): number =>
    values.reduce((all, { bytes }) => all + bytes, 0);
  const horizon = plan.launches.findLast((launch) => launch.phase === "backward")?.node.label;
  const bytes = plan.rebuilt.reduce((all, value) => all + specBytes(value), 0);
  const rebuilt = bytes > 0 ? { values: plan.rebuilt.length, bytes, keptByRecomputation: sum(plain.saved) } : undefined;
  const explanation = { kept, keptBytes: sum(kept), rebuilt, horizon };
  return { ...explanation, toString: () => table(explanation) };
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

function table({ kept, keptBytes, rebuilt, horizon }: Omit<Explanation, "toString">): string {
  const column = (bytes: number): string => `${String(bytes).padStart(12)} B`;
  const lines = kept.map(
    (value) =>
      `${column(value.bytes)}  ${value.label}  ${value.value} ${formatShape(value.shape)}  for ${value.keptFor.join(", ")}`,
  );
  return [
    ...lines,
    `${column(keptBytes)}  kept in all, ${kept.length} values`,
    ...(rebuilt
      ? [
          `${column(rebuilt.bytes)}  rebuilt by reversible layers from what is kept, ${rebuilt.values} values`,
          `${column(rebuilt.keptByRecomputation)}  would be kept by plain recomputation of the same layers`,
        ]
      : []),
    horizon ? `The backward pass ends at ${horizon}.` : "No backward pass runs.",
  ].join("\n");
}
