import { describe, expect, it } from "vitest";
import { relativeError } from "../../src/base/relative-error";
import { compute } from "../../src/function/compute";
import { mul } from "../../src/function/everyday-ops";
import { attention, crossEntropy, embedding, gelu, linear, loraLinear, scale, tanh } from "../../src/function/ops";
import { frozen, normal, values, zeros } from "../../src/function/parameters";
import { tensorFunction } from "../../src/function/tensor-function";
import type { FunctionOptions } from "../../src/function/tensor-function";
import { recorderOf } from "../../src/tape/tape";
import type { Value } from "../../src/tape/tape";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";

const engine = await useEngine();
const i32 = (...shape: (number | string)[]) => ({ shape, dtype: "i32" }) as const;

/** A perceptron with two layers, tanh between them, and cross-entropy. */
const perceptron = () =>
  tensorFunction(
    engine,
    { x: ["batch", 2], labels: i32("batch") },
    { first: { w: normal([5, 2]), bias: zeros([5]) }, second: { w: normal([3, 5]) } },
    ({ x, labels }, { first, second }) => {
      const logits = linear(tanh(linear(x, first.w, first.bias)), second.w);
      return { logits, loss: crossEntropy(logits, labels) };
    },
  );

const POINTS = { x: [0.5, -1, 2, 0.25, -0.75, 1.5, 1, 1], labels: [0, 2, 1, 2] };

/** Loss of the perceptron in float64, given its parameters by name. */
function referenceLoss(parameters: ReadonlyMap<string, Float64Array>): number {
  const [w1, bias, w2] = ["first.w", "first.bias", "second.w"].map((name) => parameters.get(name)!);
  const losses = POINTS.labels.map((label, row) => {
    const hidden = Array.from({ length: 5 }, (_, i) =>
      Math.tanh(bias![i]! + w1![2 * i]! * POINTS.x[2 * row]! + w1![2 * i + 1]! * POINTS.x[2 * row + 1]!),
    );
    const logits = Array.from({ length: 3 }, (_, i) => hidden.reduce((sum, h, j) => sum + h * w2![5 * i + j]!, 0));
    return Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0)) - logits[label]!;
  });
  return losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
}

describe("a function of tensors", () => {
  it("has the loss and the gradients of its formula", async () => {
    using net = perceptron();
    const { loss, gradients, outputs } = await net.valueAndGrad(POINTS);
    const parameters = new Map<string, Float64Array>();
    for (const name of net.parameters.keys()) parameters.set(name, Float64Array.from(await net.read(name)));
    expect(Object.keys(outputs)).toEqual(["loss"]);
    expect(loss).toBeCloseTo(referenceLoss(parameters), 5);
    expect([...gradients.keys()].sort()).toEqual(["first.bias", "first.w", "second.w"]);
    for (const [name, gradient] of gradients) {
      const differences = parameters.get(name)!.map((value, i, all) => {
        const at = (moved: number): number => {
          const data = all.slice();
          data[i] = moved;
          return referenceLoss(new Map([...parameters, [name, data]]));
        };
        return (at(value + 1e-5) - at(value - 1e-5)) / 2e-5;
      });
      expect(relativeError(await gradient.read(), differences), name).toBeLessThan(1e-4);
    }
    const { logits } = await net.run(POINTS, { outputs: ["logits"] });
    expect(logits).toHaveLength(12);
  });

  it("occupies what it predicts, from before the first call to after a freeze", async () => {
    const others = engine.ledger.liveBytes;
    using net = perceptron();
    const step = { kind: "valueAndGrad", dimensions: { batch: 4 } } as const;
    const predicted = net.predictedBytes(step);
    expect(engine.ledger.liveBytes, "before the first call").toBe(others);
    await net.valueAndGrad(POINTS);
    expect(engine.ledger.live).toEqual(predicted);
    expect(net.predictedBytes()).toEqual(predicted);
    const forward = net.predictedBytes({ kind: "run", dimensions: { batch: 2 } });
    await net.run({ x: [1, 2, 3, 4], labels: [0, 1] });
    expect(engine.ledger.live).toEqual(forward);
    const change = await net.freeze(["first"]);
    expect(change.parameters).toEqual(["first.w", "first.bias"]);
    expect(engine.ledger.live).toEqual(net.predictedBytes());
    expect(change.returnedBytes).toBeGreaterThanOrEqual(4 * 15);
    const { gradients } = await net.valueAndGrad(POINTS);
    expect([...gradients.keys()]).toEqual(["second.w"]);
    const back = await net.thaw(["first.bias"]);
    expect(back.returnedBytes).toBeLessThan(0);
    expect(engine.ledger.live).toEqual(net.predictedBytes());
  });

  it("keeps for live parameters alone what their gradients read", async () => {
    using net = perceptron();
    const call = { dimensions: { batch: 4 } };
    const readers = () => new Set(net.explain(call).kept.flatMap(({ keptFor }) => keptFor));
    // The slope of tanh leads to the first layer; the hidden values are the input of the second.
    expect([...readers()]).toEqual(expect.arrayContaining(["second.w", "through tanh (tanh dx)"]));
    await net.freeze(["first"]);
    expect(readers()).toContain("second.w");
    expect(readers()).not.toContain("through tanh (tanh dx)");
  });

  it("knows what it occupies where no call holds it, and refuses to thaw what no loss reads, unchanged", async () => {
    using net = tensorFunction(
      engine,
      { x: [2, 3] },
      { w: normal([1, 3]), unused: { ...normal([5]), isFrozen: true } },
      ({ x }, { w }) => sumOf(linear(x, w)),
    );
    await net.read("w");
    expect(net.predictedBytes()).toEqual(engine.ledger.live);
    const x = [1, 2, 3, 4, 5, 6];
    await net.step({ x });
    expect((await failure(net.thaw(["unused"]))).message).toMatch(/No gradient reaches unused/);
    expect(net.parameters.get("unused")).toBe("frozen");
    await net.step({ x });
    await net.freeze(["w"]);
    expect(net.predictedBytes()).toEqual(engine.ledger.live);
    await net.thaw(["w"]);
    expect(net.predictedBytes()).toEqual(engine.ledger.live);
    await net.step({ x });
    expect(net.predictedBytes()).toEqual(engine.ledger.live);
  });

  it("adds gradients up, and recomputes sections to the same gradients", async () => {
    const make = (recompute: boolean) =>
      tensorFunction(
        engine,
        { x: [6, 4] },
        { layers: [0, 1, 2].map(() => ({ w: normal([4, 4]) })) },
        ({ x }, { layers }, scope) => {
          const y = layers.reduce((h, { w }, i) => scope.section(`layer ${i}`, () => gelu(linear(h, w))), x);
          return crossEntropy(y, scope.constant(new Int32Array(6).fill(1), [6]));
        },
        { recompute, seed: 3 },
      );
    const x = Float32Array.from({ length: 24 }, (_, i) => Math.sin(i));
    using kept = make(false);
    using recomputed = make(true);
    const plain = await kept.valueAndGrad({ x });
    const again = await recomputed.valueAndGrad({ x });
    expect(recomputed.explain().keptBytes).toBeLessThan(kept.explain().keptBytes);
    const once = await plain.gradients.get("layers.0.w")!.read();
    expect(relativeError(await again.gradients.get("layers.0.w")!.read(), once)).toBeLessThan(1e-6);
    await kept.valueAndGrad({ x }, { accumulate: true });
    const twice = await plain.gradients.get("layers.0.w")!.read();
    expect(
      relativeError(
        twice,
        Float64Array.from(once, (value) => 2 * value),
      ),
    ).toBeLessThan(1e-6);
  });

  it("differentiates any of several losses", async () => {
    using net = tensorFunction(
      engine,
      { x: [2, 3] },
      { a: values([1, 3], [1, 2, 3]), b: values([1, 3], [0, 1, 0]) },
      ({ x }, { a, b }) => ({ left: sumOf(linear(x, a)), right: sumOf(linear(x, b)) }),
    );
    const x = [1, 2, 3, 4, 5, 6];
    const left = await net.valueAndGrad({ x }, { loss: "left" });
    expect(left.loss).toBeCloseTo(14 + 32, 4);
    expect([...left.gradients.keys()]).toEqual(["a"]);
    expect([...(await left.gradients.get("a")!.read())]).toEqual([5, 7, 9]);
    const right = await net.valueAndGrad({ x }, { loss: "right" });
    expect(right.outputs).toEqual({ left: Float32Array.of(left.loss), right: Float32Array.of(7) });
    expect([...right.gradients.keys()]).toEqual(["b"]);
  });

  it("trains LoRA on a packed weight, and attention over embeddings", async () => {
    using net = tensorFunction(
      engine,
      { ids: i32("batch", 5), labels: i32("batch", 5) },
      {
        table: frozen(normal([16, 64])),
        w: frozen(normal([64, 64]), "nf4"),
        lora: { a: normal([2, 64]), b: zeros([64, 2]) },
      },
      ({ ids, labels }, { table, w, lora }) => {
        const x = embedding(table, ids);
        const y = loraLinear(attention(x, x, x, { heads: 2, causal: true }), { w, ...lora }, 2);
        return crossEntropy(linear(y, table), labels);
      },
    );
    const ids = Int32Array.from({ length: 10 }, (_, i) => i);
    const { loss, gradients } = await net.valueAndGrad({ ids, labels: ids });
    expect(Number.isFinite(loss)).toBe(true);
    expect([...gradients.keys()].sort()).toEqual(["lora.a", "lora.b"]);
    // B is zero at the start, and A's gradient passes through B.
    expect(Math.max(...(await gradients.get("lora.a")!.read()).map(Math.abs))).toBe(0);
    expect(Math.max(...(await gradients.get("lora.b")!.read()).map(Math.abs))).toBeGreaterThan(0);
  });

  it("learns by its optimizer, freezes half of itself and returns the bytes", async () => {
    const others = engine.ledger.liveBytes;
    using net = tensorFunction(
      engine,
      { x: ["batch", 2], labels: i32("batch") },
      { first: { w: normal([16, 2]), bias: zeros([16]) }, second: { w: normal([2, 16]) } },
      ({ x, labels }, { first, second }) =>
        crossEntropy(linear(tanh(linear(x, first.w, first.bias)), second.w), labels),
      { optimizer: { learningRate: 0.05, groups: [{ match: /bias$/, learningRate: 0 }] } },
    );
    const data = { x: [1, 0, 2, 1, -1, 0, -2, 1], labels: [0, 0, 1, 1] };
    const predicted = net.predictedBytes({ kind: "step", dimensions: { batch: 4 } });
    const first = await net.step(data);
    expect(first.isApplied).toBe(true);
    expect(engine.ledger.live).toEqual(predicted);
    const gradient = await net.valueAndGrad(data);
    const squares = await Promise.all(
      [...gradient.gradients.values()].map(async (each) => (await each.read()).map((value) => value * value)),
    );
    const norm = Math.sqrt(squares.flatMap((each) => [...each]).reduce((sum, square) => sum + square, 0));
    const second = await net.step(data);
    expect(second.loss).toBeCloseTo(gradient.loss, 6);
    expect(second.gradientNorm).toBeCloseTo(norm, 5);
    for (let i = 0; i < 20; i++) await net.step(data);
    expect([...(await net.read("first.bias"))]).toEqual(new Array(16).fill(0));
    const weights = await net.read("first.w");
    const { returnedBytes } = await net.freeze(["first"]);
    // Gradient and two moments of 48 numbers, and what the first layer kept.
    expect(returnedBytes).toBeGreaterThanOrEqual(3 * 4 * 48);
    expect(engine.ledger.live).toEqual(net.predictedBytes());
    let last = await net.step(data);
    for (let i = 0; i < 10; i++) last = await net.step(data, { scheduleFactor: 0.5 });
    expect(last.loss).toBeLessThan(first.loss / 4);
    expect(await net.read("first.w")).toEqual(weights);
    await net.write("second.w", new Float32Array(32).fill(NaN));
    expect(await net.step(data)).toMatchObject({ loss: NaN, isApplied: false });
    await net.freeze(["second"]);
    expect((await failure(net.step(data))).message).toMatch(/A step of the function changes nothing/);
    net.dispose();
    expect(engine.ledger.liveBytes).toBe(others);
  });

  it("computes tensors once", async () => {
    using a = engine.tensor(Float32Array.of(1, 2, 3, 4), [2, 2]);
    using b = engine.tensor(Float32Array.of(1, 1, 1, 1), [2, 2]);
    using y = await compute(engine, { a, b }, (t) => linear(t.a, t.b));
    expect(y.shape).toEqual([2, 2]);
    expect([...(await y.read())]).toEqual([3, 3, 7, 7]);
    const two = await compute(engine, { a }, (t) => ({ double: scale(t.a, 2), half: scale(t.a, 0.5) }));
    expect([...(await two.double.read()), ...(await two.half.read())]).toEqual([2, 4, 6, 8, 0.5, 1, 1.5, 2]);
    for (const tensor of Object.values(two)) tensor.dispose();
  });
});

describe("a function of tensors refuses", () => {
  const make = (body: (x: Value, w: Value, unused: Value) => Value) =>
    tensorFunction(engine, { x: ["n", 3] }, { w: normal([1, 3]), unused: normal([2]) }, ({ x }, p) =>
      body(x, p.w, p.unused),
    );
  const calls: [string, () => Promise<unknown>, RegExp][] = [
    [
      "a loss of several numbers",
      () => make((x, w) => linear(x, w)).valueAndGrad({ x: [1, 2, 3, 4, 5, 6] }),
      /output is f32 \[2, 1\].*one number/,
    ],
    [
      "a parameter without gradient",
      () => make((x, w) => sumOf(linear(x, w))).valueAndGrad({ x: [1, 2, 3] }),
      /No gradient reaches unused/,
    ],
    [
      "a frozen name that no parameter has",
      () => make((x, w) => linear(x, w)).freeze(["v"]),
      /no parameter v.*w, unused/s,
    ],
    [
      "data that do not fit",
      () => make((x, w) => linear(x, w)).run({ x: [1, 2, 3, 4] }),
      /x has 4 values; its shape is \[n, 3\]/,
    ],
    [
      "an output that does not exist",
      () =>
        make((x, w) => linear(x, w)).valueAndGrad(
          { x: [1, 2, 3] },
          {
            // @ts-expect-error a name that the body does not return
            loss: "error",
          },
        ),
      /no output error/,
    ],
    [
      "shapes that do not fit in the body",
      () => make((x, _, unused) => linear(x, unused)).run({ x: [1, 2, 3] }),
      /linear: x \[1, 3\] does not fit w \[2\]/,
    ],
    [
      "shapes that do not broadcast",
      () => make((x, _, unused) => mul(x, unused)).run({ x: [1, 2, 3] }),
      /mul: a \[1, 3\] and b \[2\] do not broadcast\./,
    ],
    [
      "floats in a slot of integers",
      () => make((x, w) => embedding(w, x)).run({ x: [1, 2, 3] }),
      /embedding: ids is f32 \[1, 3\]\.\nPass it as i32\./,
    ],
  ];
  it.each(calls)("%s", async (_, call, message) => {
    const error = await failure(call);
    expect(error.message).toMatch(message);
    expect(error.message.split("\n"), "one line of fact, one of remedy").toHaveLength(2);
  });

  /** Programs without types may give anything. */
  const untyped = (body: unknown, options: unknown = {}) =>
    tensorFunction(
      engine,
      { x: ["n", 3] },
      { w: normal([1, 3]) },
      body as () => Value, // see above
      options as FunctionOptions, // see above
    );
  /** Anything, where the compiler wants something else: see above. */
  const any = (value: unknown): never => value as never;
  const product = ({ x }: { x: Value }, { w }: { w: Value }): Value => linear(x, w);
  const X = { x: [1, 2, 3] };
  it.each<[string, () => unknown, RegExp]>([
    ["a body without return", () => untyped(() => undefined).run(X), /^The body returns undefined\.\nReturn/],
    ["an async body", () => untyped(() => Promise.resolve()).run(X), /^The body returns a promise\.\nReturn/],
    [
      "an output that is a number",
      () => untyped(() => ({ loss: 3 })).run(X),
      /^The output loss of the body is no value/,
    ],
    [
      "a number as a slot",
      () => untyped(({ x }: { x: Value }) => linear(x, any(3))).run(X),
      /^This is no value of a recorder: 3\./,
    ],
    [
      "a record of parameters as a slot",
      () => untyped(({ x }: { x: Value }, parameters: unknown) => linear(x, any(parameters))).run(X),
      /^This is no value of a recorder: an object with w\./,
    ],
    [
      "a slot without a value",
      () => untyped(({ x }: { x: Value }, { v }: { v: Value }) => linear(x, v)).run(X),
      /^linear: its input w is missing\./,
    ],
    ["a number as input", () => untyped(product).run({ x: any(3) }), /^The input x is 3\.\nGive its numbers/],
    [
      "rows of rows as input",
      () => untyped(product).run({ x: any([[1, 2, 3]]) }),
      /^The input x has an array of 3 at 0\.\nGive its numbers/,
    ],
    ["one name in place of a list", () => untyped(product).freeze(any("w")), /^The names are "w"\.\nGive a list/],
    [
      "an option that does not exist",
      () => untyped(product, { learningRate: 1 }),
      /^A function of tensors has no option learningRate\.\nIts options are optimizer, seed/,
    ],
    [
      "an option of the optimizer that does not exist",
      () => untyped(product, { optimizer: { lr: 1 } }),
      /^The optimizer has no option lr\.\nAll have learningRate/,
    ],
    [
      "an option of a call that does not exist",
      () => untyped(product).run(X, any({ output: "x" })),
      /^A call of run has no option output\.\nIts options are/,
    ],
    [
      "a word in the place of a call",
      () => untyped(product).predictedBytes(any("step")),
      /^The call is "step"\.\nGive its kind/,
    ],
    [
      "no inputs at all",
      () => untyped(product).step(any(undefined)),
      /^The inputs of the call are undefined\.\nGive.*\{ x \}/,
    ],
    [
      "inputs in the place of a call",
      () => untyped(product).trace(any(X), X),
      /^A call: its kind is undefined\.\nIt may be run, /,
    ],
    ["a call that does not exist", () => untyped(product).predictedBytes(any({ kind: "train" })), /kind is "train"/],
    [
      "one output in place of a list",
      () => untyped(product).run(X, { outputs: any("output") }),
      /^The outputs are "output"\./,
    ],
    [
      "a factor that is no number",
      () => untyped(product).step(X, { scheduleFactor: NaN }),
      /^The scheduleFactor is NaN\./,
    ],
    ["no body", () => untyped(undefined), /^The body is undefined\./],
    ["no body to compute once", () => compute(engine, {}, any(undefined)), /^The body is undefined\./],
    [
      "no engine",
      () => tensorFunction(any(Promise.resolve()), {}, {}, any(product)),
      /^The engine is a promise\.\n.*await/,
    ],
    [
      "no inputs declared",
      () => tensorFunction(engine, any(undefined), {}, any(product)),
      /^The inputs are declared as undefined/,
    ],
    ["a word as seed", () => untyped(product, { seed: "one" }), /^The seed is "one"\./],
    [
      "another format of activations",
      () => untyped(product, { activations: "fp16" }),
      /activations is "fp16"\.\nIt may be f32, f16/,
    ],
    [
      "a section that the body does not have",
      () => untyped(product, { recompute: ["block"] }).valueAndGrad(X),
      /^The body has no section block to recompute\.\nMark it in the body/,
    ],
    [
      "one section in place of a list",
      () => untyped(product, { recompute: "block" }),
      /^The sections to recompute are "block"/,
    ],
    ["sizes that are no list", () => normal(any(3), 2), /^The shape of a parameter is 3\.\nGive a list/],
    ["a negative size", () => zeros([3, -1]), /^The shape of a parameter is \[3, -1\]\./],
  ])("%s", async (_, call, message) => {
    expect((await failure(call)).message).toMatch(message);
  });

  it("an input without a shape", async () => {
    const make = () => tensorFunction(engine, { x: any(3) }, {}, ({ x }: { x: Value }) => x);
    expect((await failure(make)).message).toMatch(/^The input x is declared as 3\.\nGive its shape/);
  });

  it("fractions as integers", async () => {
    using net = tensorFunction(engine, { ids: i32("n") }, { table: normal([3, 2]) }, ({ ids }, { table }) =>
      embedding(table, ids),
    );
    expect((await failure(() => net.run({ ids: [0, 1.5] }))).message).toMatch(/ids is i32 and has 1.5 at 1/);
  });
});

/** The sum of a column [n, 1], as a product with ones. */
function sumOf(column: Value): Value {
  const recorder = recorderOf(column);
  const count = column.shape[0]!;
  const ones = recorder.constant(new Float32Array(count).fill(1), [1, count]);
  return linear(ones, column, undefined, { layout: "in_out" });
}

describe("a trace", () => {
  it("has every dispatch of a step with its time, and totals", async () => {
    using net = perceptron();
    const trace = await net.trace({ kind: "step", scheduleFactor: 0.5 }, POINTS);
    expect(trace.clock).toBe("device");
    const { dispatches } = trace;
    expect(new Set(dispatches.map(({ phase }) => phase))).toEqual(new Set(["forward", "backward", "update"]));
    expect(dispatches.map(({ op }) => op)).toEqual(
      expect.arrayContaining(["linear", "tanh", "cross_entropy", "adamw"]),
    );
    const product = dispatches.find(({ op, phase }) => op === "linear" && phase === "forward")!;
    // x [4, 2] times w [5, 2], and the bias: 4 * 5 * 2 * 2 operations, x, w and bias read, y [4, 5] written.
    expect(product).toMatchObject({ shape: [4, 5], flops: 80, bytesRead: 4 * (8 + 10 + 5), bytesWritten: 4 * 20 });
    expect(trace.ms).toBeGreaterThan(0);
    for (const { ms } of dispatches) expect(ms).toBeGreaterThanOrEqual(0);
    const text = String(trace).split("\n");
    expect(text.filter((line) => line.includes("forward linear."))).toHaveLength(2);
    expect(text.at(-1)).toMatch(new RegExp(`in all, ${dispatches.length} dispatches, by timestamps of the device`));
    const { traceEvents } = trace.toChromeTrace();
    expect(traceEvents).toHaveLength(dispatches.length);
    for (const [i, { ph, ts, dur }] of traceEvents.entries()) {
      expect(ph).toBe("X");
      const end = i > 0 ? traceEvents[i - 1]!.ts + traceEvents[i - 1]!.dur : 0;
      expect(ts).toBeGreaterThanOrEqual(end);
      expect(dur).toBeGreaterThanOrEqual(0);
    }
    // A traced step is a step like any other.
    using other = perceptron();
    await other.step(POINTS, { scheduleFactor: 0.5 });
    expect(await net.read("second.w")).toEqual(await other.read("second.w"));
  });
});
