import { describe, expect, it } from "vitest";
import { ConfigError, ShapeError } from "../../src/base/errors";
import { add } from "../../src/ops/add";
import * as ops from "../../src/function/everyday-ops";
import { evaluate } from "../../src/run/reference";
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
