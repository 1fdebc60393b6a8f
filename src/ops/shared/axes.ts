import { ShapeError } from "../../base/errors";
import { formatShape } from "../../base/shape";
import type { Shape } from "../../base/shape";
import { checkRank } from "./strided";

/** What reductions have as attributes. */
export type AxesAttributes = {
  /** The axes over which is reduced, counted from 0, in any order. */
  readonly axes: readonly number[];
  /** Whether the output has them with size 1; else it has none of them. */
  readonly keepDims: boolean;
};

/** Whether some numbers are axes of a shape, each of them once. */
const areAxes = (axes: readonly number[], shape: Shape): boolean =>
  new Set(axes).size === axes.length &&
  axes.every((axis) => Number.isInteger(axis) && axis >= 0 && axis < shape.length);

/** @throws ShapeError if the axes are not those of x, or if x has too many. */
export function checkAxes(op: string, shape: Shape, { axes }: Pick<AxesAttributes, "axes">): void {
  checkRank(op, shape);
  if (areAxes(axes, shape)) return;
  throw new ShapeError(
    `${op}: axes ${formatShape(axes)} are not axes of x ${formatShape(shape)}.`,
    "Name each axis once, by its number from 0.",
  );
}

/** The shape with 1 in place of the axes. */
export const keptShape = (shape: Shape, { axes }: Pick<AxesAttributes, "axes">): Shape =>
  shape.map((size, axis) => (axes.includes(axis) ? 1 : size));

/** The shape of a reduction's output. */
export const reducedShape = (shape: Shape, { axes, keepDims }: AxesAttributes): Shape =>
  keepDims ? keptShape(shape, { axes }) : shape.filter((_, axis) => !axes.includes(axis));
