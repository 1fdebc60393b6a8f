import type { Plan } from "../tape/plan";
import type { TensorStore } from "./store";

/** Host data of a plan's inputs, by name, in row-major order. */
export type Inputs = Readonly<Record<string, Float32Array | Int32Array | Uint32Array>>;

/** An output that becomes an input of a later run in the same sequence, copied on the device. `to` must be staged. */
export interface Pass {
  readonly output: string;
  readonly to: Plan;
  readonly input: string;
}

/** One run of a plan in a sequence. */
export interface Run {
  readonly plan: Plan;
  readonly store: TensorStore;
  /** Returns every input that no earlier run passes. Called right before they are written. */
  readonly inputs: () => Inputs;
  readonly pass?: Pass | undefined;
  /** Whether it updates parameters, for traces. Default false. */
  readonly isUpdate?: boolean;
}

/** Names of the inputs that earlier runs of the sequence pass to a run. */
export function passedTo(runs: readonly Run[], index: number): ReadonlySet<string> {
  const { plan } = runs[index]!;
  const passes = runs.slice(0, index).flatMap(({ pass }) => (pass?.to === plan ? [pass.input] : []));
  return new Set(passes);
}

/** Whether a sequence fits into one submit: all plans are different, and all but the first are staged. */
export function fitsOneSubmit(runs: readonly Run[]): boolean {
  return runs.slice(1).every(({ plan }) => plan.isStaged) && new Set(runs.map(({ plan }) => plan)).size === runs.length;
}
