import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { explain } from "../../src/tape/explain";
import { LOSS_GRADIENT, plan } from "../../src/tape/plan";
import type { Plan } from "../../src/tape/plan";
import { reservedRanks, reserve } from "../../src/tape/reserve";
import { Recorder } from "../../src/tape/tape";
import type { Value } from "../../src/tape/tape";
import { dual, ENTRIES, half, MADE_UP_OPS } from "../support/made-up-ops";

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
