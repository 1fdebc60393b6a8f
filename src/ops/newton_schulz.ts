import { ShapeError } from "../base/errors";
import { elements, formatShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, NoAttributes, Temp } from "../op/declaration";
import type { Launch } from "../op/launch";
import type { Limits } from "../op/limits";
import { muonLaunches } from "./shared/muon";
import { productFlops, productLaunches } from "./shared/product";
import type { Operand, Product } from "./shared/product";

/** Iterations, as published. */
export const STEPS = 5;

type Context = InferContext<NoAttributes>;

interface Sizes {
  readonly rows: number;
  readonly columns: number;
  /** The smaller of both: that of the products x x^T, or x^T x of a tall matrix. */
  readonly inner: number;
  readonly isTall: boolean;
}

function sizes(context: Context): Sizes {
  const [rows = 0, columns = 0] = context.spec("x").shape;
  return { rows, columns, inner: Math.min(rows, columns), isTall: rows > columns };
}

/** The three products of an iteration from x to y: the Gram matrix, its square, and its polynomial times x. */
function products({ rows, columns, inner: n, isTall }: Sizes, x: string, y: string): readonly Product[] {
  const product = (m: number, width: number, k: number, a: Operand, b: Operand, c: string): Product => ({
    m,
    n: width,
    k,
    a,
    b,
    c,
    accumulate: false,
  });
  const [own, turned, gram] = [{ slot: x }, { slot: x, transposed: true }, { slot: "gram" }];
  return [
    isTall ? product(n, n, rows, turned, own, "gram") : product(n, n, columns, own, turned, "gram"),
    product(n, n, n, gram, gram, "square"),
    isTall ? product(rows, n, n, own, gram, y) : product(n, columns, n, gram, own, y),
  ];
}

function iterationLaunches(context: Context, limits: Limits, x: string, y: string): Launch[] {
  const size = sizes(context);
  const { inner: n } = size;
  const [gram, square, last] = products(size, x, y).map((product) => productLaunches(product, limits));
  const polynomial = muonLaunches(
    { entry: "polynomial", tensors: ["gram", "square"], count: n * n, columns: n },
    (row) => ({ start: row * n, n }),
    limits,
  ).map((launch) => renamed(launch, { gram: "s" }));
  return [...gram!, ...square!, ...polynomial, ...last!];
}

/** A launch that binds its slots to variables of other names. */
function renamed(launch: Launch, variables: Readonly<Record<string, string>>): Launch {
  const bindings = Object.entries(launch.bindings).map(([name, slot]) => [variables[name] ?? name, slot] as const);
  return { ...launch, bindings: Object.fromEntries(bindings) };
}

const temp = (shape: (size: Sizes) => readonly number[]): Temp<NoAttributes> => ({
  reads: [],
  spec: (context) => ({ shape: shape(sizes(context)), dtype: "f32" }),
  launches: () => [],
});

/**
 * A matrix made nearly orthogonal: its singular values are brought near 1 (0.7 to 1.2) by five Newton-Schulz iterations
 * x <- 3.4445 x - 4.775 (x x^T) x + 2.0315 (x x^T)^2 x from x / (|x| + 1e-7), as Muon does (Jordan et al. 2024,
 * https://kellerjordan.github.io/posts/muon). x, y [rows, columns], squares [1] (sum of squares of x).
 */
export const newtonSchulz = defineOp({
  name: "newton_schulz",
  inputs: { x: {}, squares: {} },
  outputs: ["y"],
  infer(context: Context) {
    const [x, squares] = [context.spec("x").shape, context.spec("squares").shape];
    if (x.length !== 2 || elements(squares) !== 1) {
      throw new ShapeError(
        `newton_schulz: x is ${formatShape(x)}, squares ${formatShape(squares)}.`,
        "Pass a matrix, and the sum of its squares with the shape [1].",
      );
    }
    return { y: { shape: x, dtype: "f32" } };
  },
  temps: {
    even: temp(({ rows, columns }) => [rows, columns]),
    odd: temp(({ rows, columns }) => [rows, columns]),
    gram: temp(({ inner }) => [inner, inner]),
    square: temp(({ inner }) => [inner, inner]),
  },
  forwardTemps: ["even", "odd", "gram", "square"],
  forward(context) {
    const { limits } = context;
    const normalise = muonLaunches(
      { entry: "normalise", tensors: ["x", "even"], whole: ["squares"], count: elements(context.spec("x").shape) },
      () => ({}),
      limits,
    ).map((launch) => renamed(launch, { x: "y", even: "x" }));
    const iterations = Array.from({ length: STEPS }, (_, i) => {
      const [from, to] = i % 2 === 0 ? ["even", "odd"] : ["odd", "even"];
      return iterationLaunches(context, limits, from, i === STEPS - 1 ? "y" : to);
    });
    return [...normalise, ...iterations.flat()];
  },
  gradients: [],
  flops(context) {
    const size = sizes(context);
    const iteration = products(size, "x", "y").reduce((sum, { m, n, k }) => sum + productFlops(m, n, k), 0);
    return STEPS * (iteration + 4 * size.inner ** 2) + elements(context.spec("x").shape);
  },
});
