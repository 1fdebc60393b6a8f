import { ConfigError, ShapeError } from "../base/errors";
import type { WeightFormat } from "../base/packed";
import { Random } from "../base/random";
import { columns, elements, formatShape } from "../base/shape";
import type { Shape } from "../base/shape";
import type { Value } from "../tape/tape";
import { Tensor } from "../tensor";
import { checkShape } from "./arguments";

/** A tensor that a function owns, before it has memory. */
export interface ParameterDeclaration {
  readonly shape: Shape;
  /** The first values in row-major order. Each parameter of a function gets a generator of its own. */
  readonly initial: (random: Random) => Float32Array;
  /** How it is stored. A packed parameter is frozen. Default f32. */
  readonly format?: WeightFormat;
  /** Whether it is frozen from the start. Default false. */
  readonly isFrozen?: boolean;
}

/**
 * The parameters of a function: declarations, or tensors that the caller owns and that stay frozen, in records and arrays of
 * any depth. A parameter's name is its path, such as `blocks.0.w`.
 */
export interface ParameterTree {
  readonly [name: string]: ParameterNode;
}

/** A parameter, or several in a record or an array. */
export type ParameterNode = ParameterDeclaration | Tensor | ParameterTree | readonly ParameterNode[];

/** The symbolic values of a tree of parameters. */
export type ParameterValues<P> = P extends ParameterDeclaration | Tensor
  ? Value
  : { readonly [K in keyof P]: ParameterValues<P[K]> };

/** @throws ShapeError for a value that is not a shape. */
function declared(shape: Shape, initial: (random: Random) => Float32Array): ParameterDeclaration {
  checkShape("a parameter", shape);
  return { shape, initial };
}

/**
 * Normal numbers.
 * @param deviation default 1 / sqrt(length of a row), which keeps the variance in `linear` (LeCun et al. 1998).
 * @throws ShapeError for a value that is not a shape.
 */
export function normal(shape: Shape, deviation?: number): ParameterDeclaration {
  return declared(shape, (random) => {
    const used = deviation ?? 1 / Math.sqrt(columns(shape));
    return filled(shape, () => used * random.normal());
  });
}

/** Numbers that are equally likely from `low` to `high`. @throws ShapeError for a value that is not a shape. */
export function uniform(shape: Shape, low: number, high: number): ParameterDeclaration {
  return declared(shape, (random) => filled(shape, () => low + (high - low) * random.uniform()));
}

/** The same number everywhere. @throws ShapeError for a value that is not a shape. */
export function full(shape: Shape, value: number): ParameterDeclaration {
  return declared(shape, () => filled(shape, () => value));
}

export const zeros = (shape: Shape): ParameterDeclaration => full(shape, 0);
export const ones = (shape: Shape): ParameterDeclaration => full(shape, 1);

/** Given values in row-major order. @throws ShapeError for another number of them, and for a value that is not a shape. */
export function values(shape: Shape, data: ArrayLike<number>): ParameterDeclaration {
  checkShape("a parameter", shape);
  if (data.length !== elements(shape)) {
    throw new ShapeError(
      `${data.length} values do not fill a parameter ${formatShape(shape)}.`,
      `Give ${elements(shape)} values in row-major order.`,
    );
  }
  return { shape, initial: () => Float32Array.from(data) };
}

/** A parameter that is frozen from the start. @param format how it is stored; default f32. */
export function frozen(declaration: ParameterDeclaration, format: WeightFormat = "f32"): ParameterDeclaration {
  return { ...declaration, format, isFrozen: true };
}

const filled = (shape: Shape, value: () => number): Float32Array =>
  Float32Array.from({ length: elements(shape) }, value);

const isDeclaration = (node: object): node is ParameterDeclaration =>
  "initial" in node && typeof node.initial === "function";

/** All parameters of a tree by name. @throws ConfigError for what is neither a declaration, a tensor, a record nor an array. */
export function flatten(tree: ParameterTree): Map<string, ParameterDeclaration | Tensor> {
  const found = new Map<string, ParameterDeclaration | Tensor>();
  mapTree(tree, (name, leaf) => found.set(name, leaf));
  return found;
}

/** A tree of the same form, with the result of `leaf` for each parameter. Throws as `flatten` does. */
export function mapTree(
  tree: ParameterTree,
  leaf: (name: string, parameter: ParameterDeclaration | Tensor) => unknown,
): unknown {
  const visit = (path: string, node: unknown): unknown => {
    if (typeof node !== "object" || node === null) {
      throw new ConfigError(
        `The parameter ${path} is ${String(node)}.`,
        "Declare it with normal(), zeros(), values() or another initial value, or pass a tensor.",
      );
    }
    if (node instanceof Tensor || isDeclaration(node)) return leaf(path, node);
    const below = (key: string | number, child: unknown): unknown => visit(path ? `${path}.${key}` : `${key}`, child);
    if (Array.isArray(node)) return node.map((child, index) => below(index, child));
    return Object.fromEntries(Object.entries(node).map(([key, child]) => [key, below(key, child)]));
  };
  return visit("", tree);
}

/** The first values of a function's parameters: the generator of each depends on the seed and on its position alone. */
export const initialValues = (
  { initial, shape }: ParameterDeclaration,
  seed: number,
  position: number,
): Float32Array => {
  const data = initial(new Random(seed, position));
  if (data.length === elements(shape)) return data;
  throw new ShapeError(
    `The initial values of a parameter ${formatShape(shape)} are ${data.length}.`,
    `Return ${elements(shape)} values.`,
  );
};
