import { defineOp } from "../../src/op/declaration";
import type { Op } from "../../src/op/declaration";
import type { Launch } from "../../src/op/launch";

// Ops on vectors that run on the CPU. They exist for tests of plans: each uses other features of an op's declaration.

type Vectors = Readonly<Record<string, Float64Array>>;

const kernel = { name: "made up", code: "" };

function launch(entry: string, slots: Readonly<Record<string, string>>, accumulate = false): Launch {
  return { kernel, entry, bindings: slots, params: { accumulate: accumulate ? 1 : 0 }, workgroups: 1 };
}

/** Bindings in which each slot is bound to the variable of its name. */
const same = (...slots: string[]): Record<string, string> => Object.fromEntries(slots.map((slot) => [slot, slot]));

const base = { outputs: ["y"], flops: () => 1, reference: () => ({}), cases: [], malformed: [] };

/** y = a b, with a rule for each gradient: that of a can be added to its target, that of b can take the place of dy. */
export const times: Op = defineOp({
  ...base,
  name: "times",
  inputs: { a: { gradient: true }, b: { gradient: true } },
  infer: (context) => ({ y: context.spec("a") }),
  forward: () => [launch("times", same("a", "b", "y"))],
  gradients: [
    {
      wrt: ["a"],
      reads: () => ["b"],
      accumulates: true,
      launches: ({ accumulate }) => [launch("times", { a: "dy", b: "b", y: "da" }, accumulate)],
    },
    {
      wrt: ["b"],
      reads: () => ["a"],
      overwrites: "dy",
      launches: ({ inPlace }) => [
        inPlace ? launch("times_in_place", { a: "a", y: "db" }) : launch("times", { a: "dy", b: "a", y: "db" }),
      ],
    },
  ],
});

/** y = a b, with a rule for both gradients together and one for each alone. */
export const together: Op = defineOp({
  ...base,
  name: "together",
  inputs: { a: { gradient: true }, b: { gradient: true } },
  infer: (context) => ({ y: context.spec("a") }),
  forward: () => [launch("times", same("a", "b", "y"))],
  gradients: [
    { wrt: ["a", "b"], reads: () => ["a", "b"], launches: () => [launch("both", same("dy", "a", "b", "da", "db"))] },
    { wrt: ["a"], reads: () => ["b"], launches: () => [launch("times", { a: "dy", b: "b", y: "da" })] },
    { wrt: ["b"], reads: () => ["a"], launches: () => [launch("times", { a: "dy", b: "a", y: "db" })] },
  ],
});

/** y = a + b. The gradients are dy itself, y can take the place of a, and a follows from y and b. */
export const plus: Op = defineOp({
  ...base,
  name: "plus",
  inputs: { a: { gradient: true }, b: { gradient: true } },
  infer: (context) => ({ y: context.spec("a") }),
  overwrites: "a",
  forward: ({ inPlace }) => [
    inPlace ? launch("plus_in_place", { a: "b", y: "y" }) : launch("plus", same("a", "b", "y")),
  ],
  gradients: [
    { wrt: ["a"], reads: () => [], passesThrough: true },
    { wrt: ["b"], reads: () => [], passesThrough: true },
  ],
  inverse: {
    of: "a",
    launches: ({ inPlace }) => [
      inPlace ? launch("minus_in_place", { a: "b", y: "a" }) : launch("minus", { a: "y", b: "b", y: "a" }),
    ],
  },
});

/** y = a^2 / 2, with a second output, and a gradient that reads a temp made from it. */
export const half: Op = defineOp({
  ...base,
  name: "half square",
  outputs: ["y", "copy"],
  inputs: { a: { gradient: true } },
  infer: (context) => ({ y: context.spec("a"), copy: context.spec("a") }),
  temps: {
    slope: {
      reads: ["copy"],
      spec: (context) => context.spec("a"),
      launches: () => [launch("copy", { a: "copy", y: "slope" })],
    },
  },
  forward: () => [launch("half", same("a", "y")), launch("copy", { a: "a", y: "copy" })],
  gradients: [
    { wrt: ["a"], reads: () => ["slope"], launches: () => [launch("times", { a: "dy", b: "slope", y: "da" })] },
  ],
});

export const MADE_UP_OPS: readonly Op[] = [times, together, plus, half];

/** The entry points as functions that compute element i of the vectors bound to them. */
export const ENTRIES: Readonly<Record<string, (v: Vectors, i: number) => void>> = {
  times: (v, i) => set(v, "y", i, get(v, "a", i) * get(v, "b", i)),
  times_in_place: (v, i) => set(v, "y", i, get(v, "y", i) * get(v, "a", i)),
  plus: (v, i) => set(v, "y", i, get(v, "a", i) + get(v, "b", i)),
  plus_in_place: (v, i) => set(v, "y", i, get(v, "y", i) + get(v, "a", i)),
  minus: (v, i) => set(v, "y", i, get(v, "a", i) - get(v, "b", i)),
  minus_in_place: (v, i) => set(v, "y", i, get(v, "y", i) - get(v, "a", i)),
  half: (v, i) => set(v, "y", i, get(v, "a", i) ** 2 / 2),
  copy: (v, i) => set(v, "y", i, get(v, "a", i)),
  both: (v, i) => {
    const dy = get(v, "dy", i);
    set(v, "da", i, dy * get(v, "b", i));
    set(v, "db", i, dy * get(v, "a", i));
  },
  // The engine's own `target (+)= source`.
  forward: (v, i) => set(v, "target_", i, get(v, "source", i)),
};

const get = (v: Vectors, slot: string, i: number): number => v[slot]![i]!;

function set(v: Vectors, slot: string, i: number, value: number): void {
  v[slot]![i] = value;
}

/** An op on dual numbers [value, derivative]. */
export function dual(op: Op, a: readonly [number, number], b: readonly [number, number]): [number, number] {
  if (op === plus) return [a[0] + b[0], a[1] + b[1]];
  if (op === half) return [a[0] ** 2 / 2, a[0] * a[1]];
  return [a[0] * b[0], a[0] * b[1] + a[1] * b[0]];
}
