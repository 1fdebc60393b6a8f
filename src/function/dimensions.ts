import { ConfigError, DtypeError, ShapeError } from "../base/errors";
import { elements } from "../base/shape";
import { shown } from "../base/shown";
import type { TensorSpec } from "../op/declaration";
import type { TensorData } from "../tensor";
import { isRecord } from "./arguments";

/** Sizes of an input's axes: numbers, or names of sizes that may differ from call to call. */
export type OpenShape = readonly (number | string)[];

/** A tensor that the caller gives in each call. A shape alone means f32. */
export type InputDeclaration = OpenShape | { readonly shape: OpenShape; readonly dtype: "f32" | "i32" | "u32" };

/** Sizes by name. */
export type Dimensions = Readonly<Record<string, number>>;

/** An input's values in row-major order. */
export type InputData = TensorData | readonly number[];

const isShape = (input: InputDeclaration): input is OpenShape => Array.isArray(input);

const specOf = (input: InputDeclaration): { shape: OpenShape; dtype: "f32" | "i32" | "u32" } =>
  isShape(input) ? { shape: input, dtype: "f32" } : input;

/** Names of the sizes that a function's inputs leave open. */
export function openNames(inputs: Readonly<Record<string, InputDeclaration>>): Set<string> {
  const sizes = Object.values(inputs).flatMap((input) => specOf(input).shape);
  return new Set(sizes.filter((size) => typeof size === "string"));
}

/** Types of inputs. */
const DTYPES: readonly unknown[] = ["f32", "i32", "u32"];

/** @throws ConfigError for an input that is declared by something else than a shape and a type. */
export function checkDeclarations(inputs: Readonly<Record<string, InputDeclaration>>): void {
  const given: unknown = inputs;
  if (!isRecord(given)) {
    throw new ConfigError(
      `The inputs are declared as ${shown(given)}.`,
      'Give the shape of each by its name, such as { x: ["batch", 2] }.',
    );
  }
  const isDeclared = (input: unknown): boolean => {
    if (Array.isArray(input)) return true;
    if (typeof input !== "object" || input === null || !("shape" in input && "dtype" in input)) return false;
    return Array.isArray(input.shape) && DTYPES.includes(input.dtype);
  };
  // A program without types may declare anything.
  const wrong = Object.entries<unknown>(inputs).find(([, input]) => !isDeclared(input));
  if (!wrong) return;
  throw new ConfigError(
    `The input ${wrong[0]} is declared as ${shown(wrong[1])}.`,
    'Give its shape, such as ["batch", 2], or { shape, dtype } with f32, i32 or u32.',
  );
}

/** Shapes and types of the inputs. @throws ConfigError for a size that is neither given nor a number from 1. */
export function closedInputs(
  inputs: Readonly<Record<string, InputDeclaration>>,
  dimensions: Dimensions,
): Map<string, TensorSpec> {
  return new Map(
    Object.entries(inputs).map(([name, input]) => {
      const { shape, dtype } = specOf(input);
      return [name, { shape: shape.map((size) => sizeOf(name, size, dimensions)), dtype }];
    }),
  );
}

function sizeOf(input: string, size: number | string, dimensions: Dimensions): number {
  const value = typeof size === "number" ? size : dimensions[size];
  if (value !== undefined && Number.isInteger(value) && value > 0) return value;
  const isMissing = value === undefined;
  throw new ConfigError(
    isMissing ? `The size ${size} of the input ${input} is open.` : `The input ${input} has an axis of size ${value}.`,
    isMissing ? `Give it: { ${size}: … }.` : "Give whole numbers from 1, or names.",
  );
}

/**
 * The open sizes of a call, from the lengths of its data: an input with one unknown size decides it.
 * @param known sizes that the caller says.
 * @throws ShapeError for an input that is missing or does not fit, ConfigError for sizes that the lengths leave open.
 */
export function solveDimensions(
  inputs: Readonly<Record<string, InputDeclaration>>,
  data: Readonly<Record<string, InputData>>,
  known: Dimensions = {},
): Dimensions {
  const solved: Record<string, number> = { ...known };
  const isOpen = (size: number | string): boolean => typeof size === "string" && solved[size] === undefined;
  const specs = Object.entries(inputs).map(([name, input]) => [name, specOf(input).shape] as const);
  for (const [name] of specs) checkGiven(name, data[name]);
  for (let open = openNames(inputs).size; open > 0; open--) {
    for (const [name, shape] of specs) {
      const unknown = new Set(shape.filter(isOpen));
      const [size] = unknown;
      // A name that occurs twice in one shape is no quotient of the length.
      if (unknown.size !== 1 || typeof size !== "string" || shape.filter((axis) => axis === size).length > 1) continue;
      const rest = shape
        .filter((axis) => axis !== size)
        .map((axis) => (typeof axis === "number" ? axis : solved[axis]!));
      solved[size] = data[name]!.length / elements(rest);
      if (!Number.isInteger(solved[size]) || solved[size] === 0) throw unfitting(name, data[name]!, shape);
    }
  }
  for (const [name, { shape }] of closedInputs(inputs, solved)) {
    if (data[name]!.length !== elements(shape)) throw unfitting(name, data[name]!, shape);
  }
  return solved;
}

/** @throws ShapeError for an input that is missing, DtypeError for one that is no list of numbers. */
function checkGiven(name: string, data: unknown): void {
  if (data === undefined) {
    throw new ShapeError(`The input ${name} is missing.`, "Give every input of the function, by name.");
  }
  const remedy = "Give its numbers in row-major order, in a typed array or one array.";
  if (!Array.isArray(data)) {
    if (ArrayBuffer.isView(data) && !(data instanceof DataView)) return;
    throw new DtypeError(`The input ${name} is ${shown(data)}.`, remedy);
  }
  const wrong = data.findIndex((value) => typeof value !== "number");
  if (wrong >= 0) throw new DtypeError(`The input ${name} has ${shown(data[wrong])} at ${wrong}.`, remedy);
}

function unfitting(name: string, data: InputData, shape: OpenShape): ShapeError {
  return new ShapeError(
    `The input ${name} has ${data.length} values; its shape is [${shape.join(", ")}].`,
    "Give its values in row-major order, with the same sizes for the same names in all inputs.",
  );
}

/** Data as the device reads them. @throws DtypeError for numbers that an input of integers cannot hold. */
export function asTyped(name: string, data: InputData, dtype: TensorSpec["dtype"]): TensorData {
  if (dtype !== "i32" && dtype !== "u32") return data instanceof Float32Array ? data : Float32Array.from(data);
  const Integers = dtype === "i32" ? Int32Array : Uint32Array;
  if (data instanceof Integers) return data;
  const integers = Integers.from(data);
  const wrong = integers.findIndex((value, i) => value !== data[i]);
  if (wrong < 0) return integers;
  throw new DtypeError(
    `The input ${name} is ${dtype} and has ${data[wrong]!} at ${wrong}.`,
    "Give whole numbers, or declare it as f32.",
  );
}
