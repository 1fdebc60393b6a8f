import { ShapeError } from "../../base/errors";
import { elements, formatShape, sameShape } from "../../base/shape";
import type { Shape } from "../../base/shape";
import type { CaseInput, ReferenceTensor, SlotSpecs, TensorSpec } from "../../op/declaration";
import { at, input } from "./reference";

/*
 * What ops that update a parameter share. Their slots: p and the optimizer's state, which they change in place, its gradient g,
 * total [1] (sum of squares of all gradients), loss [1], and hyper, the numbers that change from step to step.
 */

/**
 * Checks the slots of an update and returns its outputs, of which it has none.
 * @param state slots of p's shape, which may be unbound where they are optional.
 * @throws ShapeError
 */
export function checkUpdate(
  context: SlotSpecs,
  op: string,
  state: readonly string[],
  hyperSize: number,
): Readonly<Record<string, TensorSpec>> {
  const p = context.spec("p").shape;
  for (const slot of [...state, "g"].filter((name) => context.has(name))) {
    const { shape } = context.spec(slot);
    if (sameShape(shape, p)) continue;
    throw new ShapeError(
      `${op}: ${slot} ${formatShape(shape)} differs from p ${formatShape(p)}.`,
      "Pass moments and gradient with the parameter's shape.",
    );
  }
  checkJudged(context, op, hyperSize);
  return {};
}

/** Checks what decides whether there is an update, and its numbers. @throws ShapeError */
export function checkJudged(context: SlotSpecs, op: string, hyperSize: number): void {
  for (const [slot, size] of Object.entries({ total: 1, loss: 1, hyper: hyperSize })) {
    const { shape } = context.spec(slot);
    if (elements(shape) === size) continue;
    throw new ShapeError(`${op}: ${slot} is ${formatShape(shape)}.`, `Pass it with the shape [${size}].`);
  }
}

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
