import { ShapeError } from "../../base/errors";
import { formatShape } from "../../base/shape";
import type { Shape } from "../../base/shape";
import { checkRank, stridesOf } from "./strided";
import type { StridedAxis } from "./strided";

/**
 * The shape to which some shapes broadcast, as in NumPy: axes are compared from the last on, and one of size 1, or that is missing,
 * is repeated.
 * @throws ShapeError if they do not, or if they have too many axes.
 */
export function broadcastShape(op: string, shapes: Readonly<Record<string, Shape>>): Shape {
  const all = Object.values(shapes);
  const rank = Math.max(...all.map(({ length }) => length));
  const shape = Array.from({ length: rank }, (_, axis) => {
    const sizes = all.map((each) => sizeAt(each, axis, rank)).filter((size) => size !== 1);
    return sizes.every((size) => size === sizes[0]) ? (sizes[0] ?? 1) : NaN;
  });
  if (shape.some(Number.isNaN)) {
    const names = Object.entries(shapes).map(([name, each]) => `${name} ${formatShape(each)}`);
    throw new ShapeError(
      `${op}: ${names.slice(0, -1).join(", ")} and ${names.at(-1)!} do not broadcast.`,
      "Compared from the last axis on, sizes must be equal or 1; reshape or transpose one of them.",
    );
  }
  checkRank(op, shape);
  return shape;
}

const sizeAt = (shape: Shape, axis: number, rank: number): number => shape[axis - rank + shape.length] ?? 1;

/** Steps along the axes of `shape` in a tensor that broadcasts to it: 0 where it is repeated. */
export function broadcastStrides(from: Shape, shape: Shape): number[] {
  const strides = stridesOf(from);
  const missing = shape.length - from.length;
  return shape.map((_, axis) => ((from[axis - missing] ?? 1) === 1 ? 0 : strides[axis - missing]!));
}

/** The axes of `shape` with their steps in operands that broadcast to it. */
export function broadcastAxes(shape: Shape, operands: readonly Shape[]): StridedAxis[] {
  const strides = operands.map((operand) => broadcastStrides(operand, shape));
  return shape.map((size, axis) => ({ size, strides: strides.map((each) => each[axis]!) }));
}

/**
 * The axes of `shape`, those along which `target` is repeated last, with their number. An iteration over them sums, for each
 * element of the target, over the elements for which it is read.
 */
export function reducingAxes(
  shape: Shape,
  target: Shape,
  operands: readonly Shape[],
): { axes: readonly StridedAxis[]; summedAxes: number } {
  const missing = shape.length - target.length;
  const all = broadcastAxes(shape, operands);
  const isSummed = (axis: number): boolean => shape[axis] !== (target[axis - missing] ?? 1);
  const summed = all.filter((_, axis) => isSummed(axis));
  return { axes: [...all.filter((_, axis) => !isSummed(axis)), ...summed], summedAxes: summed.length };
}
