import { describe, expect, it } from "vitest";
import { ConfigError, SafetapeError, ShapeError } from "../../src/base/errors";
import { add } from "../../src/ops/add";
import type { ReferenceTensor } from "../../src/op/declaration";
import * as ops from "../../src/function/everyday-ops";
import { attention, gelu, linear } from "../../src/function/ops";
import { evaluate } from "../../src/testing/evaluate";
import { Recorder, recorderOf } from "../../src/tape/tape";
import type { Value } from "../../src/tape/tape";
import { failure } from "../support/failure";

describe("the recorder of values", () => {
  it("is found for parameters, inputs and what ops make of them", () => {
    const recorder = new Recorder();
    const [a, b] = [recorder.parameter("a", [2]), recorder.input("b", [2])];
    const y = recorder.apply(add, { a, b }, {});
    for (const value of [a, b, y]) expect(recorderOf(value, undefined)).toBe(recorder);
  });

  it("is refused for values of two recorders, and for none", async () => {
    const [a, b] = [new Recorder().input("a", [1]), new Recorder().input("b", [1])];
    expect((await failure(() => recorderOf(a, b), ConfigError)).fact).toMatch(/different recorders/);
    expect((await failure(() => recorderOf(undefined), ConfigError)).fact).toMatch(/no value of a recorder/);
    expect((await failure(() => recorderOf({ ...a }), ConfigError)).fact).toMatch(/no value of a recorder/);
  });
});

type Numbers = readonly number[];

/** Values of what functions make of a [2, 3] and b [3], by the ops' float64 references. */
function valuesOf(body: (a: Value, b: Value) => Value): { shape: Numbers; data: Numbers } {
  const recorder = new Recorder();
  const value = body(recorder.input("a", [2, 3]), recorder.input("b", [3]));
  const [result] = evaluate(recorder, { a: { shape: [2, 3], data: A }, b: { shape: [3], data: B } }, [value]);
  return { shape: result!.shape, data: [...result!.data] };
}

const A = Float64Array.of(0.5, 2, 3, 1.5, 0.25, 4);
const B = Float64Array.of(2, 0.5, 3);
const perElement = (f: (a: number, b: number) => number): number[] => [...A].map((a, i) => f(a, B[i % 3]!));

describe("functions of values refuse what a program without types may pass", () => {
  const recorder = new Recorder();
  const x = recorder.input("x", [2, 3]);
  const w = recorder.input("w", [4, 3]);
  /** Anything, where the compiler wants something else: see above. */
  const any = (value: unknown): never => value as never;

  it.each<[string, () => unknown, RegExp]>([
    [
      "an operand that is left out",
      () => ops.add(x, any(undefined)),
      /^Argument 2 of an op is undefined\.\nPass a value/,
    ],
    ["a first operand that is left out", () => ops.sub(any(undefined), 2), /^There is no value of a recorder/],
    ["nothing to reduce", () => ops.sum(any(undefined)), /^There is no value of a recorder/],
    ["nothing to reshape", () => ops.reshape(any(undefined), [6]), /^Argument 1 of an op is undefined/],
    ["no keys", () => attention(x, any(undefined), x, { heads: 1 }), /^Argument 2 of an op is undefined/],
    [
      "an option that does not exist",
      () => ops.sum(x, any({ axis: 1 })),
      /^sum has no option axis\.\nIts options are axes, keepDims\./,
    ],
    [
      "an axis in place of options",
      () => ops.mean(x, any(1)),
      /^The options of mean are 1\.\nGive them by name: \{ axes, keepDims \}\./,
    ],
    ["axes in place of options", () => ops.max(x, any([1])), /^The options of max are an array of 1\./],
    ["an axis in place of a list", () => ops.sum(x, { axes: any(1) }), /^The axes of sum are 1\.\nGive a list/],
    ["bounds by their places", () => ops.clamp(x, any(0)), /^The options of clamp are 0\.\n.*\{ min, max \}/],
    ["no bounds", () => ops.clamp(x, any(undefined)), /^The options of clamp are undefined/],
    ["indices in place of ranges", () => ops.slice(x, any(1)), /^The ranges of slice are 1\./],
    ["a range that is an index", () => ops.slice(x, [any(1)]), /^The options of a range of slice are 1\./],
    ["a misspelt end of a range", () => ops.slice(x, [any({ end: 1 })]), /^a range of slice has no option end\./],
    ["sizes by their places", () => ops.reshape(x, any(3)), /^The shape of reshape is 3\./],
    ["axes by their places", () => ops.transpose(x, any(1)), /^The axes of transpose are 1\./],
    ["values by their places", () => ops.concat(any(x), any(x)), /^The values of concat are an object/],
    [
      "a misspelt option of a product",
      () => ops.matmul(x, w, any({ transposeb: true })),
      /^matmul has no option transposeb/,
    ],
    [
      "another layout",
      () => linear(x, w, undefined, { layout: any("inout") }),
      /^linear: layout is "inout"\.\nIt may be out_in, in_out\./,
    ],
    ["a misspelt layout", () => linear(x, w, undefined, any({ layuot: "in_out" })), /^linear has no option layuot/],
    ["another approximation", () => gelu(x, { approximation: any("new") }), /^gelu: approximation is "new"/],
    ["no heads", () => attention(x, x, x, any(undefined)), /^The options of attention are undefined\.\n.*\{ heads, /],
    ["an option of a window", () => ops.maxPool2d(x, 2, any({ strides: 2 })), /^pooling has no option strides/],
    ["an option of argmax", () => ops.argmax(x, any({ axes: [1] })), /^argmax has no option axes/],
  ])("%s", async (_, call, message) => {
    const error = await failure(call, SafetapeError);
    expect(error.message).toMatch(message);
    expect(error.message.split("\n"), "one line of fact, one of remedy").toHaveLength(2);
  });
});

describe("functions of values", () => {
  it.each<[string, (a: Value, b: Value) => Value, (a: number, b: number) => number]>([
    ["add", (a, b) => ops.add(b, a), (a, b) => a + b],
    ["sub", (a, b) => ops.sub(b, a), (a, b) => b - a],
    ["mul", (a, b) => ops.mul(b, a), (a, b) => a * b],
    ["div", (a, b) => ops.div(a, b), (a, b) => a / b],
    ["pow", (a, b) => ops.pow(a, b), (a, b) => a ** b],
    ["maximum", (a, b) => ops.maximum(a, b), (a, b) => Math.max(a, b)],
    ["minimum", (a, b) => ops.minimum(a, b), (a, b) => Math.min(a, b)],
    ["x + 2", (a) => ops.add(a, 2), (a) => a + 2],
    ["2 + x", (a) => ops.add(2, a), (a) => a + 2],
    ["x - 2", (a) => ops.sub(a, 2), (a) => a - 2],
    ["2 - x", (a) => ops.sub(2, a), (a) => 2 - a],
    ["3 x", (a) => ops.mul(3, a), (a) => 3 * a],
    ["x / 4", (a) => ops.div(a, 4), (a) => a / 4],
    ["4 / x", (a) => ops.div(4, a), (a) => 4 / a],
    ["x ** 3", (a) => ops.pow(a, 3), (a) => a ** 3],
    ["3 ** x", (a) => ops.pow(3, a), (a) => 3 ** a],
    ["max(x, 1)", (a) => ops.maximum(a, 1), (a) => Math.max(a, 1)],
    ["min(1, x)", (a) => ops.minimum(1, a), (a) => Math.min(a, 1)],
    ["clamp", (a) => ops.clamp(a, { min: 1 }), (a) => Math.max(a, 1)],
    ["neg", (a) => ops.neg(a), (a) => -a],
    ["sigmoid", (a) => ops.sigmoid(a), (a) => 1 / (1 + Math.exp(-a))],
    ["greater", (a, b) => ops.greater(a, b), (a, b) => Number(a > b)],
    ["2 <= x", (a) => ops.lessEqual(2, a), (a) => Number(2 <= a)],
    ["where", (a, b) => ops.where(ops.less(a, b), b, -1), (a, b) => (a < b ? b : -1)],
  ])("compute each element: %s", (_name, body, expected) => {
    const { shape, data } = valuesOf(body);
    expect(shape).toEqual([2, 3]);
    perElement(expected).forEach((value, i) => expect(data[i]).toBeCloseTo(value, 12));
  });

  it.each<[string, (a: Value, b: Value) => Value, Numbers, Numbers]>([
    ["sum", (a) => ops.sum(a), [], [11.25]],
    ["sum of rows", (a) => ops.sum(a, { axes: [-1], keepDims: true }), [2, 1], [5.5, 5.75]],
    ["mean of columns", (a) => ops.mean(a, { axes: [0] }), [3], [1, 1.125, 3.5]],
    ["max of rows", (a) => ops.max(a, { axes: [1] }), [2], [3, 4]],
    ["min of columns", (a) => ops.min(a, { axes: [0] }), [3], [0.5, 0.25, 3]],
    ["argmax", (a) => ops.argmax(a), [2], [2, 2]],
    ["argmax of columns", (a) => ops.argmax(a, { axis: 0 }), [3], [1, 0, 1]],
    ["variance", (a) => ops.variance(a, { axes: [0], correction: 1 }), [3], [0.5, 1.53125, 0.5]],
    ["mse", (a, b) => ops.mse(a, b), [], [perElement((a, b) => (a - b) ** 2).reduce((x, y) => x + y) / 6]],
    [
      "binaryCrossEntropy",
      (a) => ops.binaryCrossEntropy(a, 0.25),
      [],
      [perElement((a) => Math.log1p(Math.exp(a)) - 0.25 * a).reduce((x, y) => x + y) / 6],
    ],
  ])("reduce: %s", (_name, body, shape, expected) => {
    const result = valuesOf(body);
    expect(result.shape).toEqual(shape);
    expected.forEach((value, i) => expect(result.data[i]).toBeCloseTo(value, 12));
  });

  it.each<[string, (a: Value, b: Value) => Value, Numbers, Numbers]>([
    ["reshape", (a) => ops.reshape(a, [3, -1]), [3, 2], [...A]],
    ["transpose", (a) => ops.transpose(a), [3, 2], [0.5, 1.5, 2, 0.25, 3, 4]],
    ["transpose by axes from the end", (a) => ops.transpose(a, [-1, -2]), [3, 2], [0.5, 1.5, 2, 0.25, 3, 4]],
    ["broadcastTo", (_, b) => ops.broadcastTo(b, [2, 3]), [2, 3], [...B, ...B]],
    ["x[:, 1:]", (a) => ops.slice(a, [undefined, { start: 1 }]), [2, 2], [2, 3, 0.25, 4]],
    ["x[-1:, ::-2]", (a) => ops.slice(a, [{ start: -1 }, { step: -2 }]), [1, 2], [4, 1.5]],
    ["x[:1, 0:100:2]", (a) => ops.slice(a, [{ stop: 1 }, { start: 0, stop: 100, step: 2 }]), [1, 2], [0.5, 3]],
    ["x[:, 2:0:-1]", (a) => ops.slice(a, [{}, { start: 2, stop: 0, step: -1 }]), [2, 2], [3, 2, 4, 0.25]],
    ["concat", (a) => ops.concat([a, a], -1), [2, 6], [0.5, 2, 3, 0.5, 2, 3, 1.5, 0.25, 4, 1.5, 0.25, 4]],
    ["concat of 20", (_, b) => ops.concat(Array.from({ length: 20 }, () => b)), [60], [...B, ...B, ...B]],
    ["gather", (a) => ops.gather(a, ops.argmax(a)), [2, 3], [0, 0, 0, 0, 0, 0]],
    ["oneHot", (a) => ops.oneHot(ops.argmax(a), 3), [2, 3], [0, 0, 1, 0, 0, 1]],
    ["oneHot of ids outside", (a) => ops.oneHot(ops.argmax(a), 2), [2, 2], [0, 0, 0, 0]],
    ["gather of numbers", (a, b) => ops.gather(b, ops.argmax(a, { axis: 0 })), [3], [0.5, 2, 0.5]],
  ])("move elements: %s", (_name, body, shape, expected) => {
    const result = valuesOf(body);
    expect(result.shape).toEqual(shape);
    expect(result.data.slice(0, expected.length)).toEqual(expected);
  });

  it("name both shapes where they do not broadcast, and axes that are not there", async () => {
    const recorder = new Recorder();
    const [a, b] = [recorder.input("a", [2, 3]), recorder.input("b", [2])];
    expect((await failure(() => ops.div(a, b), ShapeError)).fact).toBe("div: a [2, 3] and b [2] do not broadcast.");
    expect((await failure(() => ops.sum(a, { axes: [2] }), ShapeError)).fact).toBe("sum: [2, 3] has no axis 2.");
    const empty = [{ start: 1, stop: 1 }];
    expect((await failure(() => ops.slice(a, empty), ShapeError)).fact).toMatch(/^slice: \[0, 3\] elements/);
    expect((await failure(() => ops.concat([]), ShapeError)).fact).toBe("concat: there are no values.");
    expect((await failure(() => ops.add(1, 2), ConfigError)).fact).toMatch(/no value of a recorder/);
    expect(recorder.nodes).toEqual([]);
  });
});

/** A convolution in plain loops. x [n, c, h, w], w [out, c / groups, kh, kw]. */
function convolved(x: ReferenceTensor, w: ReferenceTensor, bias: Numbers, stride: number, padding: number): Numbers {
  const [n = 1, c = 1, height = 1, width = 1] = x.shape;
  const [out = 1, perGroup = 1, kernelHeight = 1, kernelWidth = 1] = w.shape;
  const perGroupOut = out / (c / perGroup);
  const [rows, columns] = [
    Math.floor((height + 2 * padding - kernelHeight) / stride) + 1,
    Math.floor((width + 2 * padding - kernelWidth) / stride) + 1,
  ];
  return Array.from({ length: n * out * rows * columns }, (_, index) => {
    const [q, p] = [index % columns, Math.floor(index / columns) % rows];
    const [o, image] = [Math.floor(index / (rows * columns)) % out, Math.floor(index / (rows * columns * out))];
    let sum = bias[o]!;
    for (let k = 0; k < perGroup * kernelHeight * kernelWidth; k++) {
      const [j, i] = [k % kernelWidth, Math.floor(k / kernelWidth) % kernelHeight];
      const channel = Math.floor(o / perGroupOut) * perGroup + Math.floor(k / (kernelHeight * kernelWidth));
      const [row, column] = [p * stride + i - padding, q * stride + j - padding];
      const isInside = row >= 0 && row < height && column >= 0 && column < width;
      const at = ((image * c + channel) * height + row) * width + column;
      if (isInside) sum += x.data[at]! * w.data[o * perGroup * kernelHeight * kernelWidth + k]!;
    }
    return sum;
  });
}

describe("functions of images", () => {
  const numbers = (shape: Numbers, step: number): ReferenceTensor => {
    const count = shape.reduce((product, size) => product * size, 1);
    return { shape, data: Float64Array.from({ length: count }, (_, i) => Math.sin(step * i)) };
  };

  it.each([1, 2])("conv2d is a convolution, with %i groups", (groups) => {
    const [x, w, bias] = [numbers([2, 4, 5, 4], 1.3), numbers([6, 4 / groups, 3, 2], 0.7), numbers([6], 2.1)];
    const recorder = new Recorder();
    const values = { x, w, bias };
    const [a, b, c] = Object.entries(values).map(([name, { shape }]) => recorder.input(name, shape));
    const y = ops.conv2d(a!, b!, c, { stride: 2, padding: 1, groups });
    const [result] = evaluate(recorder, values, [y]);
    const expected = convolved(x, w, [...bias.data], 2, 1);
    expect(result!.shape).toEqual([2, 6, 3, 3]);
    expected.forEach((value, i) => expect(result!.data[i]).toBeCloseTo(value, 12));
  });

  it("pools by maxima and means, and refuses channels that do not fit", async () => {
    const recorder = new Recorder();
    const x = recorder.input("x", [1, 1, 2, 4]);
    const data = Float64Array.of(1, 2, -3, -4, 5, 6, -7, -8);
    const pools = [ops.maxPool2d(x, 2), ops.avgPool2d(x, 2), ops.maxPool2d(x, 3, { padding: 1 })];
    const results = evaluate(recorder, { x: { shape: [1, 1, 2, 4], data } }, pools);
    expect(results.map(({ shape, data: values }) => [shape, [...values]])).toEqual([
      [
        [1, 1, 1, 2],
        [6, -3],
      ],
      [
        [1, 1, 1, 2],
        [3.5, -5.5],
      ],
      [
        [1, 1, 1, 2],
        [6, -3],
      ],
    ]);
    const w = recorder.input("w", [3, 2, 1, 1]);
    expect((await failure(() => ops.conv2d(x, w), ShapeError)).fact).toMatch(
      /weight \[3, 2, 1, 1\] and 1 groups do not/,
    );
  });

  it("matmul has batches and transposes", () => {
    const recorder = new Recorder();
    const values = { a: numbers([2, 3, 4], 1.1), b: numbers([5, 3], 0.3) };
    const [a, b] = Object.entries(values).map(([name, { shape }]) => recorder.input(name, shape));
    const y = ops.matmul(a!, b!, { transposeA: true, transposeB: true });
    const [result] = evaluate(recorder, values, [y]);
    expect(result!.shape).toEqual([2, 4, 5]);
    const sum = [0, 1, 2].reduce((total, k) => total + values.a.data[12 + 4 * k + 2]! * values.b.data[3 * 3 + k]!, 0);
    expect(result!.data[20 + 2 * 5 + 3]).toBeCloseTo(sum, 12);
  });
});
