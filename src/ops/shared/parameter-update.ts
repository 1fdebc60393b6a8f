import { ShapeError } from "../../base/errors";
import { elements, formatShape, sameShape } from "../../base/shape";
import type { SlotSpecs, TensorSpec } from "../../op/declaration";

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
