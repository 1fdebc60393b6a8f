import type { Plan } from "../tape/plan";
import type { TensorStore } from "./store";

/** Host data of a plan's inputs, by name. */
export type Inputs = Readonly<Record<string, Float32Array | Int32Array | Uint32Array>>;

/** An output that becomes an input of a later run of a staged plan, without passing through the host. */
export interface Pass {
  readonly output: string;
  readonly to: Plan;
  readonly input: string;
}

/** One plan's turn in a sequence. */
export interface Run {
  readonly plan: Plan;
  readonly store: TensorStore;
  /** Every input that no earlier run passes; a staged plan's are asked for when the sequence is submitted. */
  readonly inputs: () => Inputs;
  readonly pass?: Pass | undefined;
}

/** Names of a run's inputs that earlier runs of its sequence pass to it. */
export function passedTo(runs: readonly Run[], index: number): ReadonlySet<string> {
  const { plan } = runs[index]!;
  const passes = runs.slice(0, index).flatMap(({ pass }) => (pass?.to === plan ? [pass.input] : []));
  return new Set(passes);
}

/** Whether one submit is enough: all but the first take their inputs from staging buffers, each plan once. */
export function isOneSubmit(runs: readonly Run[]): boolean {
  return runs.slice(1).every(({ plan }) => plan.isStaged) && new Set(runs.map(({ plan }) => plan)).size === runs.length;
}
