import type { Attributes, Op, OpCase } from "../op/declaration";
import type { Limits } from "../op/limits";
import { plan } from "../tape/plan";
import type { Plan } from "../tape/plan";
import { Recorder } from "../tape/tape";
import type { Value } from "../tape/tape";

/** A tape with the op of a case. */
export interface TracedCase {
  readonly tape: Recorder;
  readonly outputs: Readonly<Record<string, Value>>;
  /** The first output; undefined for an op that only changes its inputs. */
  readonly loss: Value | undefined;
  /** Slots of the case with respect to which the op can be differentiated. */
  readonly trainable: ReadonlySet<string>;
}

/** The inputs of a case that have gradients: not those in a packed format. */
export const differentiable = (op: Op, test: OpCase<Attributes>): string[] =>
  Object.keys(test.inputs).filter((slot) => op.inputs[slot]?.gradient && !test.inputs[slot]?.format);

/** Records the op of a case on a new tape. */
export function traceCase(op: Op, test: OpCase<Attributes>): TracedCase {
  const recorder = new Recorder();
  const trainable = new Set(differentiable(op, test));
  const values = Object.fromEntries(
    Object.entries(test.inputs).map(([slot, { shape, format }]) => {
      const { dtype = "f32", mutated = false } = op.inputs[slot] ?? {};
      const isParameter = trainable.has(slot) || mutated;
      return [slot, recorder[isParameter ? "parameter" : "input"](slot, shape, format ?? dtype)];
    }),
  );
  const outputs = recorder.record(op, values, test.attributes);
  return { tape: recorder, outputs, loss: outputs[op.outputs[0] ?? ""], trainable };
}

/** Forward and backward pass of a case, with gradients of all its inputs that have one. */
export function planCase(op: Op, test: OpCase<Attributes>, limits?: Limits): Plan {
  const { tape, outputs, loss, trainable } = traceCase(op, test);
  return plan(tape, { outputs, effects: true, ...(loss && { loss, trainable }), ...(limits && { limits }) });
}
