import { ShapeError } from "../../base/errors";
import { elements, formatShape } from "../../base/shape";
import type { Shape } from "../../base/shape";
import { elementKernel, elementWorkgroups } from "../../op/element";
import type { Kernel } from "../../op/kernel";
import { bindRows, rowRanges } from "../../op/launch";
import type { Launch, RowRange } from "../../op/launch";
import type { Limits } from "../../op/limits";

/** Axes that lib/strided has. */
export const MAX_RANK = 6;

/** Elements of a sum from which a workgroup shares it. */
const SHARED_SUM = 32;

const OPERANDS = ["a", "b", "c"] as const;

/** An axis of an iteration: its size, and what a step along it is in each operand, in elements. */
export interface StridedAxis {
  readonly size: number;
  readonly strides: readonly number[];
}

/** A tensor that is read or written at the places of lib/strided. */
export interface StridedOperand {
  readonly variable: string;
  readonly slot: string;
  /** Elements of the tensor. */
  readonly count: number;
  /** The element at index 0 of every axis; default 0. */
  readonly start?: number;
}

/** An entry of a kernel that imports lib/strided. */
export interface Strided {
  readonly kernel: Kernel;
  /** With the suffix `_group` where a workgroup shares a sum. */
  readonly entry: string;
  readonly constants?: Readonly<Record<string, number>>;
  /** Axes of the iteration, outermost first: those of the target, then those that are summed. */
  readonly axes: readonly StridedAxis[];
  /** How many of the last axes are summed. Default none: every element of the target is written where its operands are bound. */
  readonly summedAxes?: number;
  /** At most three, in the order of the kernel's operands. The entry does not read one that is undefined. */
  readonly operands: readonly (StridedOperand | undefined)[];
  /** WGSL variable -> slot of the tensors with an element for each element of the target. */
  readonly targets: Readonly<Record<string, string>>;
  /** Default 1. */
  readonly factor?: number;
  readonly accumulate?: boolean;
  /** Whether the entry reads or writes single numbers; default false. */
  readonly isScalar?: boolean;
  /** Whether there is an entry in which a workgroup shares a sum, for long ones; default true. */
  readonly sharesSums?: boolean;
}

/** Distances between neighbours along each axis of a tensor in row-major order. */
export function stridesOf(shape: Shape): number[] {
  return shape.map((_, axis) => elements(shape.slice(axis + 1)));
}

/** Axes without those of one element, and with neighbours joined where one step along the outer is a whole inner axis. */
function merged(axes: readonly StridedAxis[]): StridedAxis[] {
  const result: StridedAxis[] = [];
  for (const axis of axes.filter(({ size }) => size > 1)) {
    const outer = result.at(-1);
    if (outer?.strides.every((stride, i) => stride === axis.strides[i]! * axis.size)) {
      result[result.length - 1] = { size: outer.size * axis.size, strides: axis.strides };
    } else {
      result.push(axis);
    }
  }
  return result;
}

/** All elements of an operand that is not read. */
const UNREAD: RowRange = { start: 0, count: 2 ** 32 - 1 };

/** The least and the largest place in each operand over the elements of the iteration from `low` to `high` - 1. */
function placesWithin(
  axes: readonly StridedAxis[],
  operands: readonly (StridedOperand | undefined)[],
  low: number,
  high: number,
): { readonly least: number; readonly most: number }[] {
  const [outer, ...inner] = axes;
  const span = elementsOf(inner);
  const ends = [Math.floor(low / span), Math.floor((high - 1) / span)];
  return operands.map((operand, i) => {
    const start = operand?.start ?? 0;
    const places = ends.map((k) => k * (outer?.strides[i] ?? 0));
    const reaches = inner.map(({ size, strides }) => (size - 1) * strides[i]!);
    const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, start);
    return {
      least: sum([Math.min(...places), ...reaches.map((reach) => Math.min(0, reach))]),
      most: sum([Math.max(...places), ...reaches.map((reach) => Math.max(0, reach))]),
    };
  });
}

const elementsOf = (axes: readonly StridedAxis[]): number => axes.reduce((product, { size }) => product * size, 1);

/** Every choice of one range for each operand. */
const choices = (ranges: readonly (readonly RowRange[])[]): RowRange[][] =>
  ranges.reduce<RowRange[][]>((all, some) => all.flatMap((chosen) => some.map((range) => [...chosen, range])), [[]]);

/**
 * The launches of an entry. Where tensors exceed a binding there is one for each choice of ranges that have elements of the
 * iteration in common, and an element is computed in the one launch that binds all of it.
 */
export function stridedLaunches(strided: Strided, limits: Limits): Launch[] {
  const { kernel, operands, summedAxes = 0, isScalar = false, sharesSums = true } = strided;
  const written = strided.axes.slice(0, strided.axes.length - summedAxes);
  const [targets, summed] = [elementsOf(written), elementsOf(strided.axes.slice(written.length))];
  const outer = merged(written);
  const axes = [...outer, ...merged(strided.axes.slice(written.length))];
  const isShared = sharesSums && summed >= SHARED_SUM;
  // Vectors lie along the innermost axis of the target, in all operands.
  const vectorAxis = outer.at(-1);
  const isVector = !isScalar && !isShared && vectorAxis?.strides.every((stride) => stride === 1);
  const strides = axes.filter((axis) => axis !== vectorAxis).flatMap((axis) => axis.strides);
  const starts = operands.map((operand) => operand?.start ?? 0);
  const element = elementKernel(kernel, isVector ? [vectorAxis!.size, ...strides, ...starts] : [1]);
  const { WIDTH } = element.constants;
  const ranges = operands.map((operand) => (operand ? rowRanges(operand.count, [4], limits) : [UNREAD]));
  return rowRanges(targets, [4], limits).flatMap((target) => {
    const places = placesWithin(axes, operands, target.start * summed, (target.start + target.count) * summed);
    const bound = choices(ranges).filter((chosen) =>
      chosen.every(({ start, count }, i) => start <= places[i]!.most && start + count > places[i]!.least),
    );
    return bound.map((chosen, index) => ({
      kernel: element.kernel,
      constants: { ...element.constants, ...strided.constants, RANK: Math.max(1, axes.length) },
      entry: isShared ? `${strided.entry}_group` : strided.entry,
      bindings: {
        ...Object.fromEntries(
          operands.flatMap((operand, i) =>
            operand ? [[operand.variable, bindRows(operand.slot, chosen[i]!, 4)] as const] : [],
          ),
        ),
        ...Object.fromEntries(
          Object.entries(strided.targets).map(([variable, slot]) => [variable, bindRows(slot, target, 4)]),
        ),
      },
      params: {
        ...axisParams(axes, vectorAxis, WIDTH),
        ...operandParams(operands, chosen, WIDTH),
        first: target.start / WIDTH,
        count: target.count / WIDTH,
        reduced: summed,
        factor: strided.factor ?? 1,
        accumulate: strided.accumulate || (summedAxes > 0 && index > 0) ? 1 : 0,
      },
      workgroups: isShared ? target.count : elementWorkgroups(target.count, element),
    }));
  });
}

/** Sizes and strides in elements of `width` numbers, the innermost axis first. */
function axisParams(
  axes: readonly StridedAxis[],
  vectorAxis: StridedAxis | undefined,
  width: number,
): Record<string, number> {
  const params: Record<string, number> = {};
  for (let i = 0; i < MAX_RANK; i++) {
    const axis = axes[axes.length - 1 - i];
    const isOfVectors = axis !== undefined && axis === vectorAxis;
    params[`size${i}`] = (axis?.size ?? 1) / (isOfVectors ? width : 1);
    OPERANDS.forEach((name, operand) => {
      // A step along the axis of vectors is one element, whatever its width.
      params[`${name}${i}`] = (axis?.strides[operand] ?? 0) / (isOfVectors ? 1 : width);
    });
  }
  return params;
}

function operandParams(
  operands: readonly (StridedOperand | undefined)[],
  bound: readonly RowRange[],
  width: number,
): Record<string, number> {
  return Object.fromEntries(
    OPERANDS.flatMap((name, i) => [
      [`${name}_start`, (operands[i]?.start ?? 0) / width],
      [`${name}_first`, (bound[i]?.start ?? 0) / width],
      [`${name}_count`, Math.ceil((bound[i]?.count ?? 1) / width)],
    ]),
  );
}

/** @throws ShapeError if a tensor has more axes than kernels index. */
export function checkRank(op: string, shape: Shape): void {
  if (shape.length <= MAX_RANK) return;
  throw new ShapeError(
    `${op}: ${formatShape(shape)} has ${shape.length} axes.`,
    `Use at most ${MAX_RANK} axes; reshape joins neighbouring ones.`,
  );
}
