import { ShapeError } from "../base/errors";
import { elements, formatShape, isSuffix, sameShape } from "../base/shape";
import type { Shape } from "../base/shape";
import { recorderOf } from "../tape/tape";
import type { Value } from "../tape/tape";
import { add as addOp } from "../ops/add";
import { addBroadcast } from "../ops/add_broadcast";
import { binary } from "../ops/binary";
import type { BinaryAttributes } from "../ops/binary";
import { broadcastTo as broadcastToOp } from "../ops/broadcast_to";
import { compare } from "../ops/compare";
import type { CompareAttributes } from "../ops/compare";
import { concat as concatOp, CONCAT_SLOTS } from "../ops/concat";
import { embedding } from "../ops/embedding";
import { fill } from "../ops/fill";
import { matmul as matmulOp } from "../ops/matmul";
import type { MatmulAttributes } from "../ops/matmul";
import { max as maxOp } from "../ops/max";
import { mul as mulOp } from "../ops/mul";
import { reshape as reshapeOp } from "../ops/reshape";
import { scale } from "../ops/scale";
import { scaleColumns } from "../ops/scale_columns";
import { slice as sliceOp } from "../ops/slice";
import { softmax as softmaxOp } from "../ops/softmax";
import { sum as sumOp } from "../ops/sum";
import { transpose as transposeOp } from "../ops/transpose";
import { unary } from "../ops/unary";
import type { UnaryKind } from "../ops/unary";
import { positions, unfold } from "../ops/unfold";
import type { UnfoldAttributes } from "../ops/unfold";
import { where as whereOp } from "../ops/where";
import { checkList, checkOptions, checkShape, recorderOfAll } from "./arguments";

/** A value of a tape, or a number. */
export type Operand = Value | number;

/** Over which axes is reduced. */
export interface ReductionOptions {
  /** Axes, counted from 0, or from the last one backwards if negative. Default all. */
  readonly axes?: readonly number[];
  /** Whether the output keeps them, with size 1. Default false. */
  readonly keepDims?: boolean;
}

/** The largest finite number of f32. */
const LARGEST = 3.4028234663852886e38;

const isNumber = (operand: Operand): operand is number => typeof operand === "number";

/** The operands that are values. */
const valuesOf = (...operands: readonly Operand[]): Value[] =>
  operands.filter((each): each is Value => !isNumber(each));

function applyUnary(x: Value, kind: UnaryKind, ...numbers: readonly number[]): Value {
  return recorderOf(x).apply(unary, { x }, { kind, numbers });
}

/** A number as a scalar on the tape of other operands. */
function asValue(operand: Operand, ...others: readonly Operand[]): Value {
  if (!isNumber(operand)) return operand;
  return recorderOf(...valuesOf(...others)).apply(fill, {}, { shape: [], value: operand });
}

function applyBinary(kind: BinaryAttributes["kind"], a: Operand, b: Operand): Value {
  const recorder = recorderOfAll(...valuesOf(a, b));
  return recorder.apply(binary, { a: asValue(a, b), b: asValue(b, a) }, { kind });
}

/** The number of an axis from 0. @throws ShapeError for one that the shape does not have. */
function axisOf(name: string, axis: number, shape: Shape): number {
  const counted = axis < 0 ? axis + shape.length : axis;
  if (Number.isInteger(axis) && counted >= 0 && counted < shape.length) return counted;
  throw new ShapeError(
    `${name}: ${formatShape(shape)} has no axis ${axis}.`,
    "Count axes from 0, or backwards from -1, the last one.",
  );
}

/** a + b. Operands are values, repeated as in NumPy, or one of them is a number. @throws ShapeError if they do not broadcast. */
export function add(a: Operand, b: Operand): Value {
  if (isNumber(b) && !isNumber(a)) return applyUnary(a, "add", b);
  if (isNumber(a) && !isNumber(b)) return applyUnary(b, "add", a);
  if (isNumber(a) || isNumber(b)) return applyBinary("add", a, b);
  const recorder = recorderOfAll(a, b);
  if (sameShape(a.shape, b.shape)) return recorder.apply(addOp, { a, b }, {});
  if (isSuffix(b.shape, a.shape)) return recorder.apply(addBroadcast, { a, b }, {});
  if (isSuffix(a.shape, b.shape)) return recorder.apply(addBroadcast, { a: b, b: a }, {});
  return applyBinary("add", a, b);
}

/** a - b, as `add`. */
export function sub(a: Operand, b: Operand): Value {
  if (isNumber(b) && !isNumber(a)) return applyUnary(a, "add", -b);
  if (isNumber(a) && !isNumber(b)) return applyUnary(b, "subtract_from", a);
  return applyBinary("sub", a, b);
}

/** Whether a vector has a number for each column of a tensor. */
const isRow = (vector: Shape, shape: Shape): boolean => vector.length === 1 && shape.at(-1) === vector[0];

/** a b, elementwise, as `add`. */
export function mul(a: Operand, b: Operand): Value {
  if (isNumber(b) && !isNumber(a)) return recorderOf(a).apply(scale, { x: a }, { factor: b });
  if (isNumber(a) && !isNumber(b)) return recorderOf(b).apply(scale, { x: b }, { factor: a });
  if (isNumber(a) || isNumber(b)) return applyBinary("mul", a, b);
  const recorder = recorderOfAll(a, b);
  if (sameShape(a.shape, b.shape)) return recorder.apply(mulOp, { a, b }, {});
  if (isRow(b.shape, a.shape)) return recorder.apply(scaleColumns, { a, b }, {});
  if (isRow(a.shape, b.shape)) return recorder.apply(scaleColumns, { a: b, b: a }, {});
  return applyBinary("mul", a, b);
}

/** a / b, elementwise, as `add`. */
export function div(a: Operand, b: Operand): Value {
  if (isNumber(b) && !isNumber(a)) return recorderOf(a).apply(scale, { x: a }, { factor: 1 / b });
  if (isNumber(a) && !isNumber(b)) return applyUnary(b, "divide", a);
  return applyBinary("div", a, b);
}

/** a to the power of b, elementwise, as `add`. A negative a has whole powers only, and no gradient with respect to b. */
export function pow(a: Operand, b: Operand): Value {
  if (isNumber(b) && !isNumber(a)) return applyUnary(a, "power", b);
  if (isNumber(a) && !isNumber(b)) return applyUnary(b, "exponential", a);
  return applyBinary("pow", a, b);
}

/** The larger of a and b, elementwise, as `add`. Where two values are equal, each gets half the gradient. */
export function maximum(a: Operand, b: Operand): Value {
  if (isNumber(b) && !isNumber(a)) return applyUnary(a, "clamp", b, LARGEST);
  if (isNumber(a) && !isNumber(b)) return applyUnary(b, "clamp", a, LARGEST);
  return applyBinary("maximum", a, b);
}

/** The smaller of a and b, elementwise, as `maximum`. */
export function minimum(a: Operand, b: Operand): Value {
  if (isNumber(b) && !isNumber(a)) return applyUnary(a, "clamp", -LARGEST, b);
  if (isNumber(a) && !isNumber(b)) return applyUnary(b, "clamp", -LARGEST, a);
  return applyBinary("minimum", a, b);
}

/** -x. */
export const neg = (x: Value): Value => mul(x, -1);

/** e^x. */
export const exp = (x: Value): Value => applyUnary(x, "exp");

/** The natural logarithm of x. */
export const log = (x: Value): Value => applyUnary(x, "log");

/** The square root of x. */
export const sqrt = (x: Value): Value => applyUnary(x, "sqrt");

/** |x|, whose gradient at 0 is 0. */
export const abs = (x: Value): Value => applyUnary(x, "abs");

/** The sine of x. */
export const sin = (x: Value): Value => applyUnary(x, "sin");

/** The cosine of x. */
export const cos = (x: Value): Value => applyUnary(x, "cos");

/** 1 / (1 + e^-x). */
export const sigmoid = (x: Value): Value => applyUnary(x, "sigmoid");

/** log(1 + e^x), without overflow. */
export const softplus = (x: Value): Value => applyUnary(x, "softplus");

/** x within [min, max]; an end that is left out does not bound it. @throws ConfigError if min is larger than max. */
export function clamp(x: Value, options: { min?: number; max?: number }): Value {
  checkOptions("clamp", options, ["min", "max"]);
  const { min = -LARGEST, max: most = LARGEST } = options;
  return applyUnary(x, "clamp", Math.max(min, -LARGEST), Math.min(most, LARGEST));
}

function compared(kind: CompareAttributes["kind"]): (a: Operand, b: Operand) => Value {
  return (a, b) => recorderOf(...valuesOf(a, b)).apply(compare, { a: asValue(a, b), b: asValue(b, a) }, { kind });
}

/** 1 where a > b, else 0, as i32; operands as those of `add`. Comparisons have no gradients. */
export const greater = compared("greater");

/** 1 where a >= b, as `greater`. */
export const greaterEqual = compared("greater_equal");

/** 1 where a < b, as `greater`. */
export const less = compared("less");

/** 1 where a <= b, as `greater`. */
export const lessEqual = compared("less_equal");

/** 1 where a = b, as `greater`. */
export const equal = compared("equal");

/** 1 where a and b differ, as `greater`. */
export const notEqual = compared("not_equal");

/** a where condition (i32) is not 0, else b; values are repeated as in NumPy. @throws ShapeError if they do not broadcast. */
export function where(condition: Value, a: Operand, b: Operand): Value {
  const recorder = recorderOf(condition, ...valuesOf(a, b));
  return recorder.apply(whereOp, { condition, a: asValue(a, condition), b: asValue(b, condition) }, {});
}

function reduction(name: string, x: Value, options: ReductionOptions, ...further: readonly string[]) {
  recorderOfAll(x);
  checkOptions(name, options, ["axes", "keepDims", ...further]);
  const { axes, keepDims = false } = options;
  if (axes) checkList(`axes of ${name}`, axes, "[0, -1]");
  const all = axes?.map((axis) => axisOf(name, axis, x.shape)) ?? x.shape.map((_, axis) => axis);
  return { axes: all, keepDims };
}

/** The sum of x over axes. x [...] gives [x without the axes]. @throws ShapeError for an axis that x does not have. */
export function sum(x: Value, options: ReductionOptions = {}): Value {
  return recorderOf(x).apply(sumOp, { x }, { ...reduction("sum", x, options), mean: false });
}

/** The mean of x over axes, as `sum`. */
export function mean(x: Value, options: ReductionOptions = {}): Value {
  return recorderOf(x).apply(sumOp, { x }, { ...reduction("mean", x, options), mean: true });
}

/**
 * The mean of squared differences from the mean of x, over axes, as `sum`.
 * @param options `correction` is subtracted from the number of elements; 1 makes the estimate unbiased. Default 0.
 */
export function variance(x: Value, options: ReductionOptions & { readonly correction?: number } = {}): Value {
  const { axes, keepDims } = reduction("variance", x, options, "correction");
  const count = axes.reduce((product, axis) => product * x.shape[axis]!, 1);
  const squares = pow(sub(x, mean(x, { axes, keepDims: true })), 2);
  return div(sum(squares, { axes, keepDims }), count - (options.correction ?? 0));
}

/** The maximum of x over axes, as `sum`. The first of several equal ones gets the gradient. */
export function max(x: Value, options: ReductionOptions = {}): Value {
  return recorderOf(x).apply(maxOp, { x }, reduction("max", x, options));
}

/** The minimum of x over axes, as `max`. */
export const min = (x: Value, options: ReductionOptions = {}): Value => neg(max(neg(x), options));

/** Where x is largest along an axis (default the last), as i32 [x without the axis]; the first of several. No gradient. */
export function argmax(x: Value, options: { axis?: number; keepDims?: boolean } = {}): Value {
  checkOptions("argmax", options, ["axis", "keepDims"]);
  const { axis = -1, keepDims = false } = options;
  return recorderOf(x).record(maxOp, { x }, reduction("argmax", x, { axes: [axis], keepDims }))["index"]!;
}

/** Softmax over the last axis. x [..., n] gives [..., n]. */
export const softmax = (x: Value): Value => recorderOf(x).apply(softmaxOp, { x }, { logarithm: false });

/** The logarithm of the softmax over the last axis, without the loss of digits of log(softmax(x)). */
export const logSoftmax = (x: Value): Value => recorderOf(x).apply(softmaxOp, { x }, { logarithm: true });

/** The mean of (prediction - target)^2 over all elements, a scalar []. Shapes broadcast. */
export const mse = (prediction: Value, target: Operand): Value => mean(pow(sub(prediction, target), 2));

/**
 * Binary cross-entropy, the mean over all elements of -t log(sigmoid(x)) - (1 - t) log(1 - sigmoid(x)), a scalar []. logits x
 * and targets t (in [0, 1]) broadcast. It is computed as softplus(x) - t x, which does not overflow.
 */
export function binaryCrossEntropy(logits: Value, targets: Operand): Value {
  return mean(sub(softplus(logits), mul(logits, targets)));
}

/** x in another shape with as many elements; one size may be -1, which is what the others leave. */
export function reshape(x: Value, shape: Shape): Value {
  const recorder = recorderOfAll(x);
  checkShape("reshape", shape, -1);
  const others = elements(shape.filter((size) => size !== -1));
  const whole = shape.map((size) => (size === -1 ? elements(x.shape) / others : size));
  return recorder.apply(reshapeOp, { x }, { shape: whole });
}

/** x with permuted axes: axis i of the result is axis axes[i] of x. Default: all in reverse order. */
export function transpose(x: Value, axes?: readonly number[]): Value {
  const recorder = recorderOfAll(x);
  if (axes) checkList("axes of transpose", axes, "[1, 0]");
  const order = axes?.map((axis) => axisOf("transpose", axis, x.shape)) ?? x.shape.map((_, axis) => axis).reverse();
  return recorder.apply(transposeOp, { x }, { axes: order });
}

/** x repeated as in NumPy until it has a shape. */
export function broadcastTo(x: Value, shape: Shape): Value {
  checkShape("broadcastTo", shape);
  return recorderOf(x).apply(broadcastToOp, { x }, { shape });
}

/** Which elements along an axis are taken, as start:stop:step in Python: negative indices count from the end. Default all. */
export interface SliceRange {
  readonly start?: number;
  /** The first index that is not taken. */
  readonly stop?: number;
  readonly step?: number;
}

/** Elements of x by a range for each of its first axes, all along the others. @throws ShapeError where nothing is left. */
export function slice(x: Value, ranges: readonly (SliceRange | undefined)[]): Value {
  const recorder = recorderOfAll(x);
  checkList("ranges of slice", ranges, "[{ start: 1 }], one for each axis");
  if (ranges.length > x.shape.length) {
    throw new ShapeError(
      `slice: ${ranges.length} ranges for x ${formatShape(x.shape)}.`,
      "Pass at most a range for each axis.",
    );
  }
  const taken = x.shape.map((size, axis) => indicesOf(size, ranges[axis]));
  return recorder.apply(
    sliceOp,
    { x },
    {
      starts: taken.map(({ start }) => start),
      sizes: taken.map(({ count }) => count),
      steps: taken.map(({ step }) => step),
    },
  );
}

/** The indices of a range of an axis, by the rules of Python. */
function indicesOf(size: number, range: SliceRange = {}): { start: number; count: number; step: number } {
  checkOptions("a range of slice", range, ["start", "stop", "step"]);
  const { step = 1 } = range;
  const [low, high] = step < 0 ? [-1, size - 1] : [0, size];
  const clamped = (index: number): number => Math.min(Math.max(index < 0 ? index + size : index, low), high);
  const start = range.start === undefined ? (step < 0 ? high : low) : clamped(range.start);
  const stop = range.stop === undefined ? (step < 0 ? low : high) : clamped(range.stop);
  return { start, count: Math.max(0, Math.ceil((stop - start) / step)), step };
}

/** Values one after the other along an axis (default the first). @throws ShapeError where their other sizes differ, or for none. */
export function concat(values: readonly Value[], axis = 0): Value {
  checkList("values of concat", values, "[a, b]");
  const [first] = values;
  if (!first) throw new ShapeError("concat: there are no values.", "Pass at least one value.");
  if (values.length > CONCAT_SLOTS.length) {
    // One op has a fixed number of slots.
    const head = concat(values.slice(0, CONCAT_SLOTS.length), axis);
    return concat([head, ...values.slice(CONCAT_SLOTS.length)], axis);
  }
  const recorder = recorderOfAll(...values);
  const inputs = Object.fromEntries(values.map((value, i) => [CONCAT_SLOTS[i]!, value]));
  return recorder.apply(concatOp, inputs, { axis: axisOf("concat", axis, first.shape) });
}

/** x[ids] along the first axis; zeros for an index outside x. x [n, ...], ids i32 [...], result [ids, ... of x]. */
export function gather(x: Value, ids: Value): Value {
  const recorder = recorderOfAll(x, ids);
  const [first = 1, ...rest] = x.shape;
  if (rest.length === 1) return recorder.apply(embedding, { table: x, ids }, {});
  const rows = recorder.apply(embedding, { table: reshape(x, [first, elements(rest)]), ids }, {});
  return reshape(rows, [...ids.shape, ...rest]);
}

/** Products of matrices. a [..., m, k], b [..., k, n], result [..., m, n]; the axes before the matrices are repeated as in NumPy. */
export function matmul(a: Value, b: Value, options: Partial<MatmulAttributes> = {}): Value {
  checkOptions("matmul", options, ["transposeA", "transposeB"]);
  const { transposeA = false, transposeB = false } = options;
  return recorderOf(a, b).apply(matmulOp, { a, b }, { transposeA, transposeB });
}

/** How a kernel moves over images: a number for both axes, or one for rows and one for columns. */
export interface WindowOptions {
  /** Default 1; of pooling, the size of the window. */
  readonly stride?: number | readonly [number, number];
  /** Rows and columns that are added at each edge. Default 0. */
  readonly padding?: number | readonly [number, number];
  /** Distance between the elements that it reads. Default 1. */
  readonly dilation?: number | readonly [number, number];
}

const pair = (value: number | readonly [number, number]): readonly number[] =>
  typeof value === "number" ? [value, value] : value;

const WINDOW = ["stride", "padding", "dilation"] as const satisfies readonly (keyof WindowOptions)[];

function windowOf(size: readonly number[], options: WindowOptions, outside = 0): UnfoldAttributes {
  const { stride = 1, padding = 0, dilation = 1 } = options;
  return { kernel: size, stride: pair(stride), padding: pair(padding), dilation: pair(dilation), outside };
}

/**
 * Convolution of images, as torch.nn.functional.conv2d: the products of a weight with the patches at its positions.
 * x [n, c, h, w], weight [out, c / groups, rows, columns], bias [out], result [n, out, ...]. The patches are as many numbers as there
 * are in x, times those of the kernel, and are kept where the weight learns.
 * @throws ShapeError where channels, groups and sizes do not fit.
 */
export function conv2d(
  x: Value,
  weight: Value,
  bias?: Value,
  options: WindowOptions & { readonly groups?: number } = {},
): Value {
  const recorder = recorderOfAll(x, weight);
  checkOptions("conv2d", options, [...WINDOW, "groups"]);
  const { groups = 1 } = options;
  const [n = 1, channels = 1, ...image] = x.shape;
  const [out = 1, perGroup = 1, ...size] = weight.shape;
  const isFitting = x.shape.length === 4 && weight.shape.length === 4 && channels === groups * perGroup;
  if (!isFitting || !Number.isInteger(out / groups) || (bias && !sameShape(bias.shape, [out]))) {
    const given = bias ? `, bias ${formatShape(bias.shape)}` : "";
    throw new ShapeError(
      `conv2d: x ${formatShape(x.shape)}, weight ${formatShape(weight.shape)}${given} and ${groups} groups do not fit.`,
      "Pass x [n, c, h, w], weight [out, c / groups, rows, columns] and bias [out], with groups that divide c and out.",
    );
  }
  const window = windowOf(size, options);
  const patches = recorder.apply(unfold, { x }, window);
  const [rows = 1, columns = 1] = positions(image, window);
  const taps = perGroup * elements(size);
  const kernels = reshape(weight, [groups, out / groups, taps]);
  const products = matmul(kernels, reshape(patches, [n, groups, taps, rows * columns]));
  const y = reshape(products, [n, out, rows, columns]);
  return bias ? add(y, reshape(bias, [out, 1, 1])) : y;
}

/** The positions of a window, each with the numbers that it sees: [n, c, numbers, rows, columns]. */
function pooled(x: Value, size: number | readonly [number, number], options: WindowOptions, outside: number): Value {
  const recorder = recorderOfAll(x);
  checkOptions("pooling", options, WINDOW);
  const window = windowOf(pair(size), { stride: size, ...options }, outside);
  const patches = recorder.apply(unfold, { x }, window);
  return reshape(patches, [...patches.shape.slice(0, 3), ...positions(x.shape.slice(2), window)]);
}

/** The largest number in each window. x [n, c, h, w]; size and stride as those of torch.nn.MaxPool2d. */
export const maxPool2d = (x: Value, size: number | readonly [number, number], options: WindowOptions = {}): Value =>
  max(pooled(x, size, options, -LARGEST), { axes: [2] });

/** The mean of each window, where padding counts as zeros. x [n, c, h, w]; size and stride as those of torch.nn.AvgPool2d. */
export const avgPool2d = (x: Value, size: number | readonly [number, number], options: WindowOptions = {}): Value =>
  mean(pooled(x, size, options, 0), { axes: [2] });

/**
 * 1 at the place of each id, else 0: ids i32 [...] gives f32 [..., classes]; zeros for an id outside. It reads a table
 * [classes, classes], so it is for classes and not for vocabularies. Ids have no gradient.
 */
export function oneHot(ids: Value, classes: number): Value {
  const diagonal = Float32Array.from({ length: classes * classes }, (_, i) => Number(i % (classes + 1) === 0));
  return gather(recorderOf(ids).constant(diagonal, [classes, classes]), ids);
}
