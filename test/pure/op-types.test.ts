import { describe, expect, it } from "vitest";
import { defineOp, loraLinear, linear, ops } from "safetape/ops";
import { Recorder } from "safetape/engine";
import type { InferContext, Op } from "safetape/ops";

// The compiler checks this file: every `@ts-expect-error` is an error of the compiler, and what has none is right.

const recorder = new Recorder();
const [x, w, bias] = [recorder.input("x", [2, 3]), recorder.parameter("w", [4, 3]), recorder.parameter("bias", [4])];
const layout = "out_in";

describe("an op that is recorded", () => {
  it("takes its slots, of which optional ones may be left out", () => {
    expect(recorder.apply(ops.linear, { x, w, bias }, { layout }).shape).toEqual([2, 4]);
    expect(recorder.apply(ops.linear, { x, w, bias: undefined }, { layout }).shape).toEqual([2, 4]);
    expect(recorder.record(ops.linear, { x, w }, { layout })["y"]?.shape).toEqual([2, 4]);
    expect(linear(x, w, bias, { layout }).shape).toEqual([2, 4]);
  });

  it("takes no others, and needs those that are not optional", () => {
    // @ts-expect-error -- a misspelt slot
    expect(() => recorder.apply(ops.linear, { x, w, bais: bias }, { layout })).toThrow("linear has no input bais.");
    // @ts-expect-error -- a slot of another op
    expect(() => recorder.record(ops.relu, { x, w }, {})).toThrow("relu has no input w.");
    // @ts-expect-error -- a missing slot
    expect(() => recorder.apply(ops.linear, { x, bias }, { layout })).toThrow("linear: its input w is missing.");
    // @ts-expect-error -- a slot that may not be undefined
    expect(() => recorder.record(ops.linear, { x, w: undefined }, { layout })).toThrow("input w is missing.");
    // @ts-expect-error -- the functions of values name their slots, too
    expect(() => loraLinear(x, { w, a: w, bb: w })).toThrow("lora_linear: its input b is missing.");
  });

  it("takes its attributes", () => {
    // @ts-expect-error -- a misspelt attribute
    recorder.apply(ops.linear, { x, w: recorder.parameter("square", [3, 3]) }, { layuot: layout });
    // @ts-expect-error -- an attribute of another kind
    expect(recorder.apply(ops.scale, { x }, { factor: "2" }).shape).toEqual([2, 3]);
    // @ts-expect-error -- an attribute of an op that has none
    expect(recorder.apply(ops.relu, { x }, { factor: 2 }).shape).toEqual([2, 3]);
    // @ts-expect-error -- the functions of values take theirs, too, and refuse others without types
    expect(() => linear(x, w, bias, { layout: "in" })).toThrow(/layout is "in"/);
  });

  it("may be any op, with slots that only a run knows", () => {
    const any: Op = ops.linear;
    expect(recorder.apply(any, { x, w }, { layout }).shape).toEqual([2, 4]);
    expect(() => recorder.apply(any, { x, w, bais: bias }, { layout })).toThrow("linear has no input bais.");
  });
});

describe("defineOp", () => {
  const shared = { outputs: ["y"], flops: () => 0 } as const;
  const gate = defineOp({
    ...shared,
    name: "gate",
    inputs: { x: { gradient: true }, gate: { optional: true } },
    infer(context: InferContext<{ readonly power: number }>) {
      return { y: context.spec("x") };
    },
    forward: ({ attributes }) => [attributes.power].flatMap(() => []),
    gradients: [{ wrt: ["x"], reads: ({ power }) => (power === 1 ? [] : ["x"]), launches: () => [] }],
    reference: ({ x: tensor, gate: factor }, { power }) => ({
      y: { shape: tensor.shape, data: tensor.data.map((v, i) => v ** power * (factor?.data[i] ?? 1)) },
    }),
    cases: [{ name: "a vector", attributes: { power: 2 }, inputs: { x: { shape: [3] } } }],
  });

  it("infers slots and attributes from the declaration", () => {
    expect(recorder.apply(gate, { x }, { power: 2 }).shape).toEqual([2, 3]);
    expect(recorder.apply(gate, { x, gate: x }, { power: 2 }).shape).toEqual([2, 3]);
    // @ts-expect-error -- a misspelt slot
    expect(() => recorder.apply(gate, { x, gaet: x }, { power: 2 })).toThrow("gate has no input gaet.");
    // @ts-expect-error -- a missing slot
    expect(() => recorder.apply(gate, { gate: x }, { power: 2 })).toThrow("gate: its input x is missing.");
    // @ts-expect-error -- a missing attribute
    expect(recorder.apply(gate, { x }, {}).shape).toEqual([2, 3]);
  });

  it("knows slots and attributes where the declaration names them", () => {
    const parts = {
      ...shared,
      name: "parts",
      inputs: { x: {} },
      infer: (context: InferContext<{ readonly power: number }>) => ({ y: context.spec("x") }),
      forward: () => [],
    } as const;
    // @ts-expect-error -- a gradient with respect to a slot that is not there
    defineOp({ ...parts, gradients: [{ wrt: ["z"], reads: () => [] }] });
    // @ts-expect-error -- a buffer that is not there
    defineOp({ ...parts, gradients: [], overwrites: "z" });
    // @ts-expect-error -- an attribute that is not there
    defineOp({ ...parts, gradients: [{ wrt: ["x"], reads: ({ factor }) => [String(factor)] }] });
    // @ts-expect-error -- a case without its attributes
    defineOp({ ...parts, gradients: [], cases: [{ name: "a", attributes: {}, inputs: { x: { shape: [1] } } }] });
    // @ts-expect-error -- an input that the reference does not get
    defineOp({ ...parts, gradients: [], reference: ({ z: _ }) => ({}) });
    expect(gate.cases).toHaveLength(1);
  });
});
