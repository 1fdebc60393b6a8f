import { Random } from "../../src/base/random";
import type { Attributes, ReferenceTensor, Op, OpCase } from "../../src/op/declaration";
import { relativeError } from "./op-runs";
import type { CaseRun } from "./op-runs";

export const TOLERANCE = 2e-5;
export const GRADIENT_TOLERANCE = 1e-4;
/** Step h of central differences in float64: both the truncation error, h^2, and the rounding error, 1e-16 / h, are small. */
const STEP = 1e-5;

type Inputs = Readonly<Record<string, ReferenceTensor>>;

/** The inputs of a case that have gradients. */
export const differentiable = (op: Op, test: OpCase<Attributes>): string[] =>
  Object.keys(test.inputs).filter((slot) => op.inputs[slot]?.gradient && !test.inputs[slot]?.format);

/** Relative error of each output and mutated input against the op's reference, by slot; Infinity for a missing one. */
export function forwardErrors(op: Op, test: OpCase<Attributes>, run: CaseRun, inputs: Inputs): [string, number][] {
  return Object.entries(op.reference(inputs, test.attributes)).map(([slot, { data }]) => {
    const actual = run.outputs.get(slot) ?? run.mutated.get(slot);
    return [slot, actual ? relativeError(actual, data) : Infinity];
  });
}

/**
 * Relative error, by slot, of each gradient along a random direction, against the central difference of <dy, y> in that
 * direction; Infinity for a missing gradient.
 */
export function gradientErrors(
  op: Op,
  test: OpCase<Attributes>,
  run: CaseRun,
  inputs: Inputs,
  dy: Float32Array,
): [string, number][] {
  return differentiable(op, test).map((slot) => {
    const gradient = run.gradients.get(slot);
    return [slot, gradient ? gradientError(op, test, inputs, slot, gradient, dy) : Infinity];
  });
}

function gradientError(
  op: Op,
  test: OpCase<Attributes>,
  inputs: Inputs,
  slot: string,
  gradient: Float32Array,
  dy: Float32Array,
): number {
  const random = new Random(99);
  const { shape, data } = inputs[slot]!;
  const direction = data.map(() => random.normal());
  const objective = (sign: number): number => {
    const moved = { shape, data: data.map((v, i) => v + sign * STEP * direction[i]!) };
    const output = op.reference({ ...inputs, [slot]: moved }, test.attributes)[op.outputs[0]!]!;
    return output.data.reduce((sum, v, i) => sum + v * dy[i]!, 0);
  };
  const expected = (objective(1) - objective(-1)) / (2 * STEP);
  const actual = gradient.reduce((sum, v, i) => sum + v * direction[i]!, 0);
  const size = Math.sqrt(gradient.reduce((sum, v) => sum + v * v, 0) * direction.reduce((sum, v) => sum + v * v, 0));
  return Math.abs(actual - expected) / Math.max(size, Math.abs(expected), 1e-6);
}
