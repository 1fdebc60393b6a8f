import type { OpCase, TestsOf } from "../op/declaration";
import { at, filled, input } from "./shared/reference";
import type { unary, UnaryKind, UnaryAttributes } from "./unary";

const REFERENCES: Readonly<Record<UnaryKind, (x: number, p: number, q: number) => number>> = {
  exp: Math.exp,
  log: Math.log,
  sqrt: Math.sqrt,
  abs: Math.abs,
  sin: Math.sin,
  cos: Math.cos,
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  softplus: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
  clamp: (x, p, q) => Math.min(Math.max(x, p), q),
  add: (x, p) => x + p,
  subtract_from: (x, p) => p - x,
  divide: (x, p) => p / x,
  power: (x, p) => x ** p,
  exponential: (x, p) => p ** x,
};

/** A case of a function: ordinary numbers and its far ends. */
function caseOf(kind: UnaryKind, numbers: readonly number[], values: readonly number[]): OpCase<UnaryAttributes> {
  return {
    name: [kind, ...numbers].join(" "),
    attributes: { kind, numbers },
    inputs: { x: { shape: [values.length], values } },
  };
}

export const unaryTests: TestsOf<typeof unary> = {
  reference(inputs, { kind, numbers: [p = 0, q = 0] }) {
    const x = input(inputs, "x");
    return { y: filled(x.shape, (index) => REFERENCES[kind](at(x, index), p, q)) };
  },
  cases: [
    caseOf("exp", [], [-100, -1, 0, 1, 4]),
    caseOf("log", [], [0.01, 0.5, 1, 2, 1e6]),
    caseOf("sqrt", [], [0.01, 0.5, 1, 2, 1e4]),
    caseOf("abs", [], [-1e6, -1e-2, 3, 1e6]),
    caseOf("sin", [], [-40, -3, -0.5, 0, 1.5, 3]),
    caseOf("cos", [], [-40, -3, -0.5, 0, 1.5, 3]),
    caseOf("sigmoid", [], [-100, -14, -1e-3, 0, 1, 2, 100]),
    caseOf("softplus", [], [-100, -14, -6, -1e-3, 0, 1, 14, 100, 2]),
    caseOf("clamp", [-0.5, 0.7], [-1e6, -0.6, 0, 0.6, 1e6]),
    caseOf("add", [2], [-1e6, 0, 3, 1e6]),
    caseOf("subtract_from", [2], [-1e6, 0, 3, 1e6]),
    caseOf("divide", [2], [-4, -0.5, 1, 8]),
    caseOf("power", [2], [-3, -1e-3, 0, 1, 100]),
    caseOf("power", [3], [-3, -1e-3, 0, 1, 100]),
    caseOf("power", [-1.5], [0.5, 1, 3, 100]),
    caseOf("power", [0], [-3, 1, 3]),
    caseOf("power", [5], [-3, -1, 0, 2]),
    caseOf("exponential", [0.3], [-3, 0, 1, 20]),
    { name: "one element", attributes: { kind: "exp", numbers: [] }, inputs: { x: { shape: [1] } } },
    {
      name: "elements that can be split over bindings",
      attributes: { kind: "sigmoid", numbers: [] },
      inputs: { x: { shape: [41, 128] } },
    },
  ],
  malformed: [
    {
      name: "too few numbers",
      attributes: { kind: "clamp", numbers: [1] },
      inputs: { x: { shape: [2], dtype: "f32" } },
      message: /clamp has 2 numbers, not \[1\]/,
    },
    {
      name: "an empty interval",
      attributes: { kind: "clamp", numbers: [1, 0] },
      inputs: { x: { shape: [2], dtype: "f32" } },
      message: /clamp from 1 to 0 leaves nothing/,
    },
    {
      name: "a negative base",
      attributes: { kind: "exponential", numbers: [-2] },
      inputs: { x: { shape: [2], dtype: "f32" } },
      message: /-2 to the power of x has no gradient/,
    },
  ],
};
