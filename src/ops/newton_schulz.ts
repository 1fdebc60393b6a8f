import { ShapeError } from "../base/errors";
import { elements, formatShape } from "../base/shape";
import { defineOp } from "../op/declaration";
import type { InferContext, NoAttributes, ReferenceTensor, Temp } from "../op/declaration";
import type { Launch } from "../op/launch";
import type { Limits } from "../op/limits";
import { muonLaunches } from "./shared/muon";
import { productFlops, productLaunches } from "./shared/product";
import type { Operand, Product } from "./shared/product";
import { at, filled, input, matrixProduct } from "./shared/reference";

/** Iterations, as published. */
const STEPS = 5;

/** Coefficients of the quintic polynomial, as published. */
const [A, B, C] = [3.4445, -4.775, 2.0315];

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
export const newtonSchulz = defineOp<NoAttributes>({
  name: "newton_schulz",
  inputs: { x: {}, squares: {} },
  outputs: ["y"],
  infer(context) {
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
  reference(inputs) {
    const x = input(inputs, "x");
    const [rows = 0, columns = 0] = x.shape;
    const length = Math.sqrt(at(input(inputs, "squares"), 0)) + 1e-7;
    let y: ReferenceTensor = filled(x.shape, (i) => at(x, i) / length);
    for (let step = 0; step < STEPS; step++) {
      const gram = { shape: [rows, rows], data: matrixProduct(y, y, rows, rows, columns, { b: true }) };
      const once = { shape: x.shape, data: matrixProduct(gram, y, rows, columns, rows) };
      const twice = matrixProduct(gram, once, rows, columns, rows);
      const before = y;
      y = filled(x.shape, (i) => A * at(before, i) + B * at(once, i) + C * twice[i]!);
    }
    return { y };
  },
  cases: [
    {
      name: "wide",
      attributes: {},
      inputs: { x: { shape: [5, 13] }, squares: { shape: [1], values: [65] } },
      tolerance: 1e-4,
    },
    {
      name: "tall",
      attributes: {},
      inputs: { x: { shape: [40, 8] }, squares: { shape: [1], values: [320] } },
      tolerance: 1e-4,
    },
    {
      name: "a diagonal, whose numbers follow the polynomial",
      attributes: {},
      inputs: { x: { shape: [2, 2], values: [3, 0, 0, 4] }, squares: { shape: [1], values: [25] } },
    },
    {
      name: "zeros",
      attributes: {},
      inputs: { x: { shape: [2, 3], values: [0, 0, 0, 0, 0, 0] }, squares: { shape: [1], values: [0] } },
    },
    {
      name: "one element",
      attributes: {},
      inputs: { x: { shape: [1, 1], values: [-2] }, squares: { shape: [1], values: [4] } },
    },
    {
      name: "rows that can be split over bindings",
      attributes: {},
      inputs: { x: { shape: [64, 96] }, squares: { shape: [1], values: [6144] } },
      tolerance: 1e-4,
    },
    {
      name: "BERT-base attention weight",
      attributes: {},
      inputs: { x: { shape: [768, 768] }, squares: { shape: [1], values: [589824] } },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "a vector",
      attributes: {},
      inputs: { x: { shape: [4], dtype: "f32" }, squares: { shape: [1], dtype: "f32" } },
      message: /newton_schulz: x is \[4\]/,
    },
  ],
});
