import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { explain } from "../../src/tape/explain";
import { LOSS_GRADIENT, plan } from "../../src/tape/plan";
import type { Plan } from "../../src/tape/plan";
import { reservedRanks, reserve } from "../../src/tape/reserve";
import { Recorder } from "../../src/tape/tape";
import type { Value } from "../../src/tape/tape";
import { dual, ENTRIES, half, MADE_UP_OPS, plus } from "../support/made-up-ops";

const SIZE = 2;
const PARAMETERS = ["p0", "p1", "p2"];
const LEAVES = [...PARAMETERS, "x0"];

/** A random tape: each node takes two earlier values. */
const NODES = fc.array(fc.tuple(fc.nat(MADE_UP_OPS.length - 1), fc.nat(1000), fc.nat(1000)), {
  minLength: 1,
  maxLength: 12,
});
const SUBSET = fc.subarray(PARAMETERS);

type Recipe = readonly (readonly [number, number, number])[];

function record(recipe: Recipe): { tape: Recorder; loss: Value } {
  const tape = new Recorder();
  const values: Value[] = LEAVES.map((name) =>
    name.startsWith("p") ? tape.parameter(name, [SIZE]) : tape.input(name, [SIZE]),
  );
  for (const [index, first, second] of recipe) {
    const op = MADE_UP_OPS[index]!;
    const a = values[first % values.length]!;
    const b = values[second % values.length]!;
    values.push(tape.apply(op, op === half ? { a } : { a, b }, {}));
  }
  return { tape, loss: values.at(-1)! };
}

const start = (name: string, i: number): number => 0.5 + 0.3 * LEAVES.indexOf(name) - 0.2 * i;

/** Derivative of the loss with respect to one element of a parameter, by dual numbers. All ops work element by element. */
function derivative(recipe: Recipe, parameter: string, element: number): number {
  const values = LEAVES.map((name): [number, number] => [start(name, element), name === parameter ? 1 : 0]);
  for (const [index, first, second] of recipe) {
    const a = values[first % values.length]!;
    const b = values[second % values.length]!;
    values.push(dual(MADE_UP_OPS[index]!, a, b));
  }
  return values.at(-1)![1];
}

/** Runs a plan on the CPU. All buffers start as NaN, so that a value that is read before it is written shows in the results. */
function run(planned: Plan): Map<string, Float64Array> {
  const rank = reservedRanks(planned);
  const buffers = reserve([planned]).map(({ bytes }) => new Float64Array(bytes / 4).fill(NaN));
  const named = new Map<string, Float64Array>();
  const vector = (key: string, fill: (i: number) => number): Float64Array => {
    const values = named.get(key) ?? Float64Array.from({ length: SIZE }, (_, i) => fill(i));
    named.set(key, values);
    return values;
  };
  for (const [name, { buffer }] of planned.inputs) {
    const target = buffers[rank[buffer]!]!;
    for (let i = 0; i < SIZE; i++) target[i] = name === LOSS_GRADIENT ? 1 : start(name, i);
  }
  for (const { launch, bindings } of planned.launches) {
    const vectors = Object.fromEntries(
      bindings.map(({ variable, target }) => [
        variable,
        target.kind === "buffer"
          ? buffers[rank[target.index]!]!
          : vector(`${target.kind} ${target.name}`, (i) => (target.kind === "gradient" ? NaN : start(target.name, i))),
      ]),
    );
    const written = vectors["y"] ?? vectors["target_"];
    const before = launch.params["accumulate"] === 1 && written ? written.slice(0, SIZE) : undefined;
    for (let i = 0; i < SIZE; i++) ENTRIES[launch.entry]?.(vectors, i);
    if (before) before.forEach((value, i) => (written![i] = value + written![i]!));
  }
  return named;
}

const planFor = (recipe: Recipe, trainable: readonly string[]): Plan => {
  const { tape, loss } = record(recipe);
  return plan(tape, { outputs: { loss }, loss, trainable: new Set(trainable) });
};

const savedBytes = (planned: Plan): number => planned.saved.reduce((sum, { bytes }) => sum + bytes, 0);

describe("plans of random tapes", () => {
  it("compute every gradient correctly, although values share buffers", () => {
    fc.assert(
      fc.property(NODES, SUBSET, (recipe, trainable) => {
        const planned = planFor(recipe, trainable);
        const results = run(planned);
        for (const name of planned.gradients.keys()) {
          expect(trainable).toContain(name);
          for (let i = 0; i < SIZE; i++) {
            const expected = derivative(recipe, name, i);
            const actual = results.get(`gradient ${name}`)?.[i] ?? NaN;
            const error = Math.abs(actual - expected) / Math.max(1, Math.abs(expected));
            expect(error, `relative error of d${name}[${i}]: ${actual}, expected ${expected}`).toBeLessThan(1e-9);
          }
        }
        for (const name of trainable.filter((parameter) => !planned.gradients.has(parameter))) {
          expect(derivative(recipe, name, 0), `derivative for ${name}, which has no gradient`).toBe(0);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it("save no more for fewer trainable tensors, and nothing for none", () => {
    fc.assert(
      fc.property(NODES, SUBSET, (recipe, trainable) => {
        const all = planFor(recipe, PARAMETERS);
        const some = planFor(recipe, trainable);
        expect(savedBytes(some)).toBeLessThanOrEqual(savedBytes(all));
        const none = planFor(recipe, []);
        expect(none.saved).toEqual([]);
        expect(none.launches.every(({ phase }) => phase === "forward")).toBe(true);
      }),
    );
  });

  it("are the same every time, and explain each kept value", () => {
    fc.assert(
      fc.property(NODES, SUBSET, (recipe, trainable) => {
        const { tape, loss } = record(recipe);
        const options = { outputs: { loss }, loss, trainable: new Set(trainable) };
        const [a, b] = [plan(tape, options), plan(tape, options)];
        expect(a.buffers).toEqual(b.buffers);
        expect(a.launches.length).toBe(b.launches.length);
        for (const { keptFor } of explain(tape, a).kept) expect(keptFor.length).toBeGreaterThan(0);
      }),
    );
  });

  it("fit into one reservation that they share", () => {
    fc.assert(
      fc.property(NODES, NODES, (first, second) => {
        const plans = [planFor(first, PARAMETERS), planFor(second, PARAMETERS)];
        const shared = reserve(plans);
        for (const planned of plans) {
          const rank = reservedRanks(planned);
          expect(new Set(rank).size, "distinct places of buffers").toBe(planned.buffers.length);
          planned.buffers.forEach(({ bytes }, i) => expect(shared[rank[i]!]?.bytes).toBeGreaterThanOrEqual(bytes));
        }
      }),
    );
  });
});

/** What a layer of a reversible stack computes from a stream: ops by index, each of the last value and a leaf. */
const FUNCTION = fc.array(fc.tuple(fc.nat(MADE_UP_OPS.length - 1), fc.nat(LEAVES.length - 1)), {
  minLength: 1,
  maxLength: 3,
});
const STACK = fc.record({
  layers: fc.array(fc.tuple(FUNCTION, FUNCTION), { minLength: 1, maxLength: 5 }),
  /** Layers between two states that are kept. */
  every: fc.integer({ min: 1, max: 6 }),
  swaps: fc.boolean(),
});
type Stack = typeof STACK extends fc.Arbitrary<infer S> ? S : never;
type Apply<T> = (index: number, a: T, b: T) => T;
type Add<T> = (a: T, b: T) => T;

/** Values of two streams x1, x2 that pass layers y1 = x1 + F(x2), y2 = x2 + G(y1), on any kind of values. */
function throughStack<T extends object>(
  { layers, swaps }: Stack,
  leaves: readonly T[],
  { apply, part, couple }: { apply: Apply<T>; part: (name: string, body: () => T) => T; couple: Add<T> },
): { states: (readonly [T, T, T, T])[]; out: readonly [T, T] } {
  const states: (readonly [T, T, T, T])[] = [];
  const run = (ops: readonly (readonly [number, number])[], x: T): T =>
    ops.reduce((value, [index, leaf]) => apply(index, value, leaves[leaf]!), x);
  let [x1, x2] = [leaves[0]!, leaves[3]!];
  x1 = x2 = apply(0, x1, x2);
  layers.forEach(([f, g], layer) => {
    const [a, b] = [x1, x2];
    const y1 = part(`F ${layer}`, () => couple(a, run(f, b)));
    const y2 = part(`G ${layer}`, () => couple(b, run(g, y1)));
    states.push([x1, x2, y1, y2]);
    [x1, x2] = swaps ? [y2, y1] : [y1, y2];
  });
  return { states, out: [x1, x2] };
}

function recordStack(stack: Stack, rebuilds: boolean): { tape: Recorder; loss: Value } {
  const tape = new Recorder();
  const leaves = LEAVES.map((name) => (name.startsWith("p") ? tape.parameter(name, [SIZE]) : tape.input(name, [SIZE])));
  const { states, out } = throughStack<Value>(stack, leaves, {
    apply: (index, a, b) => tape.apply(MADE_UP_OPS[index]!, MADE_UP_OPS[index] === half ? { a } : { a, b }, {}),
    part: (name, body) => (rebuilds ? tape.reversibleSection(name, body) : body()),
    couple: (a, b) => tape.apply(plus, { a, b }, {}),
  });
  states.forEach(([x1, x2, y1, y2], layer) => {
    if (!rebuilds || (layer > 0 && (states.length - layer) % stack.every === 0)) return;
    if (x1 !== x2) tape.rebuild(x1, y1);
    tape.rebuild(x2, y2);
  });
  return { tape, loss: tape.apply(plus, { a: out[0], b: out[1] }, {}) };
}

describe("plans of random reversible stacks", () => {
  const planStack = (stack: Stack, trainable: readonly string[], rebuilds = true): Plan => {
    const { tape, loss } = recordStack(stack, rebuilds);
    return plan(tape, { outputs: { loss }, loss, trainable: new Set(trainable) });
  };

  it("give the gradients of dual numbers, whatever is rebuilt", () => {
    fc.assert(
      fc.property(STACK, SUBSET, (stack, trainable) => {
        const made = planStack(stack, trainable);
        const outputs = (name: string | undefined, i: number): readonly [number, number][] =>
          throughStack(
            stack,
            LEAVES.map((leaf): [number, number] => [start(leaf, i), leaf === name ? 1 : 0]),
            {
              apply: (index, a, b) => dual(MADE_UP_OPS[index]!, a, b),
              part: (_name, body) => body(),
              couple: (a, b) => dual(plus, a, b),
            },
          ).out;
        // Rebuilding x = y - F loses what y is larger than x by.
        fc.pre(outputs(undefined, 0).every(([value]) => Math.abs(value) < 1e4));
        const found = run(made);
        expect([...made.gradients.keys()].sort()).toEqual(
          [...planStack(stack, trainable, false).gradients.keys()].sort(),
        );
        for (const name of made.gradients.keys()) {
          for (let i = 0; i < SIZE; i++) {
            const expected = outputs(name, i).reduce((sum, [, slope]) => sum + slope, 0);
            const actual = found.get(`gradient ${name}`)?.[i] ?? NaN;
            const error = Math.abs(actual - expected) / Math.max(1, Math.abs(expected));
            expect(error, `d${name}[${i}]: ${actual} against ${expected}`).toBeLessThan(1e-6);
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  /** Eight layers; p1 and p2 act in each of the upper layers, p0 below them all and, with `lower`, in the lower four. */
  const eight = (every: number): Stack => ({
    layers: Array.from({ length: 8 }, (_, layer) => [[[0, layer < 4 ? 0 : 1]], [[0, layer < 4 ? 0 : 2]]]),
    every,
    swaps: true,
  });
  const VECTOR = SIZE * 4;

  it("keep two streams for every state that is not rebuilt", () => {
    expect(savedBytes(planStack(eight(8), PARAMETERS)), "one state").toBe(2 * VECTOR);
    expect(savedBytes(planStack(eight(4), PARAMETERS)), "two states").toBe(4 * VECTOR);
    expect(savedBytes(planStack(eight(2), PARAMETERS)), "four states").toBe(8 * VECTOR);
  });

  it("keep nothing below the lowest layer that learns, and do not rebuild what enters it twice", () => {
    const upper = planStack(eight(3), ["p1", "p2"]);
    expect(savedBytes(upper), "what leaves layers 4 and 7").toBe(4 * VECTOR);
    const inverses = (made: Plan): number =>
      made.launches.filter(({ phase, launch }) => phase === "recompute" && launch.entry.startsWith("minus")).length;
    // Of the lowest layer's two streams only x2 enters F, whose gradients read it.
    expect(inverses(planStack(eight(8), ["p1", "p2"]))).toBe(2 * 4 - 1);
    expect(inverses(planStack(eight(8), PARAMETERS))).toBe(2 * 8 - 1);
  });
});
