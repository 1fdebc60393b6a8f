import kernel from "../../kernels/unary.wgsl";
import { ConfigError } from "../base/errors";
import { elements } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, LaunchContext } from "../op/declaration";
import type { Launch } from "../op/launch";
import { accumulateParam, elementwiseLaunches } from "./shared/elementwise";

/** Functions of x, or of x and numbers p and q. An index into this list is the kernel's `KIND`. */
const KINDS = [
  "exp",
  "log",
  "sqrt",
  "abs",
  "sin",
  "cos",
  "sigmoid",
  "softplus",
  "clamp",
  "add",
  "subtract_from",
  "divide",
  "power",
  "exponential",
] as const;

export type UnaryKind = (typeof KINDS)[number];

export type UnaryAttributes = {
  /**
   * The function: exp, log, sqrt, abs, sin, cos, sigmoid, softplus = log(1 + e^x), clamp = min(max(x, p), q), add = x + p,
   * subtract_from = p - x, divide = p / x, power = x^p, exponential = p^x.
   */
  readonly kind: UnaryKind;
  /** The numbers p and q, as far as the function has them. */
  readonly numbers: readonly number[];
};

/** What the derivative is computed from: x or y, or neither where it is constant. */
const KEEPS: Readonly<Record<UnaryKind, "x" | "y" | undefined>> = {
  exp: "y",
  log: "x",
  sqrt: "y",
  abs: "x",
  sin: "x",
  cos: "x",
  sigmoid: "y",
  softplus: "x",
  clamp: "x",
  add: undefined,
  subtract_from: undefined,
  divide: "x",
  power: "x",
  exponential: "y",
};

const NUMBERS: Readonly<Partial<Record<UnaryKind, number>>> = {
  clamp: 2,
  add: 1,
  subtract_from: 1,
  divide: 1,
  power: 1,
  exponential: 1,
};

/** Floating-point operations for each element, as other ops count them. */
const FLOPS = 10;

type Context = LaunchContext<UnaryAttributes>;

function launches(entry: string, tensors: readonly string[], context: Context): Launch[] {
  const { kind, numbers } = context.attributes;
  const [p = 0, q = 0] = numbers;
  // The derivative of p^x is log(p) p^x.
  const params = () => ({ p, q: kind === "exponential" ? Math.log(p) : q, ...accumulateParam(context) });
  const count = elements(context.spec("x").shape);
  return elementwiseLaunches({ kernel, entry, tensors, count, params }, context.limits).map((launch) => ({
    ...launch,
    constants: { ...launch.constants, KIND: KINDS.indexOf(kind) },
  }));
}

function gradientLaunches(context: Context): Launch[] {
  const { kind } = context.attributes;
  const kept = KEEPS[kind];
  // The gradient of x + p is dy.
  if (context.inPlace && kind === "add") return [];
  const entry = kept === undefined ? "grad_x" : `grad_x_from_${kept}`;
  const read = kept === undefined ? [] : [kept];
  return context.inPlace
    ? launches(`${entry}_in_place`, [...read, "dx"], context)
    : launches(entry, [...read, "dy", "dx"], context);
}

/** A function of each element, or of each element and numbers. x [...], y [...]. */
export const unary = defineOp({
  name: "unary",
  inputs: { x: { gradient: true } },
  outputs: ["y"],
  infer(context: InferContext<UnaryAttributes>) {
    const { kind, numbers } = context.attributes;
    const wanted = NUMBERS[kind] ?? 0;
    if (numbers.length !== wanted || numbers.some(Number.isNaN)) {
      throw new ConfigError(
        `unary: ${kind} has ${wanted} numbers, not [${numbers.join(", ")}].`,
        `Pass ${wanted} numbers that are not NaN.`,
      );
    }
    if (kind === "clamp" && numbers[0]! > numbers[1]!) {
      throw new ConfigError(
        `unary: clamp from ${numbers[0]} to ${numbers[1]} leaves nothing.`,
        "Pass the smaller one first.",
      );
    }
    if (kind === "exponential" && numbers[0]! <= 0) {
      throw new ConfigError(
        `unary: ${numbers[0]} to the power of x has no gradient.`,
        "Pass a base that is larger than 0.",
      );
    }
    return { y: { shape: context.spec("x").shape, dtype: "f32" } };
  },
  forward: (context) =>
    context.inPlace ? launches("forward_in_place", ["y"], context) : launches("forward", ["x", "y"], context),
  overwrites: "x",
  gradients: [
    {
      wrt: ["x"],
      reads: ({ kind }) => (KEEPS[kind] === undefined ? [] : [KEEPS[kind]]),
      accumulates: true,
      overwrites: "dy",
      launches: gradientLaunches,
      flops: (context) => FLOPS * elements(context.spec("x").shape),
    },
  ],
  flops: (context) => FLOPS * elements(context.spec("x").shape),
});
