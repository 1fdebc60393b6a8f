import type { Shape } from "../../base/shape";
import type { CaseInput, ReferenceTensor, TensorSpec } from "../../op/declaration";
import { at, input } from "./reference";

type ReferenceInputs = Readonly<Record<string, ReferenceTensor>>;

/** A copy of the tensor in a slot. */
export function copied(inputs: ReferenceInputs, slot: string): ReferenceTensor {
  const { shape, data } = input(inputs, slot);
  return { shape, data: data.slice() };
}

/** The elements of the clipped gradient; undefined where total or loss is not finite, so that nothing may change. */
export function clippedGradient(inputs: ReferenceInputs, maxNorm: number): ((i: number) => number) | undefined {
  const [total, loss, g] = [at(input(inputs, "total"), 0), at(input(inputs, "loss"), 0), input(inputs, "g")];
  if (!Number.isFinite(total) || !Number.isFinite(loss)) return undefined;
  const clip = maxNorm > 0 ? Math.min(1, maxNorm / (Math.sqrt(total) + 1e-6)) : 1;
  return (i) => at(g, i) * clip;
}

/** Parameter, gradient and state of a case. */
export const updateInputs = (shape: Shape, state: readonly string[]): Record<string, CaseInput> => ({
  p: { shape },
  ...Object.fromEntries(state.map((slot) => [slot, { shape, scale: 0.1 }])),
  g: { shape },
});

/** What decides whether a case has an update. */
export interface TotalAndLoss {
  readonly total?: number | undefined;
  readonly loss?: number | undefined;
}

/** Total, loss and hyperparameters of a case. */
export const judgedStep = (
  hyper: Iterable<number>,
  { total = 1, loss = 0.7 }: TotalAndLoss = {},
): Record<string, CaseInput> => {
  const values = [...hyper];
  return {
    total: { shape: [1], values: [total] },
    loss: { shape: [1], values: [loss] },
    hyper: { shape: [values.length], values },
  };
};

/** Specs of a malformed case: p, gradient and state of one shape, and what changes. */
export const updateSpecs = (
  state: readonly string[],
  hyperSize: number,
  changes: Readonly<Record<string, Shape>>,
): Record<string, TensorSpec> => {
  const shapes = Object.fromEntries(["p", "g", ...state].map((slot) => [slot, [4]]));
  const all: Record<string, Shape> = { ...shapes, total: [1], loss: [1], hyper: [hyperSize], ...changes };
  return Object.fromEntries(Object.entries(all).map(([slot, shape]) => [slot, { shape, dtype: "f32" }]));
};
