import { SafetapeError } from "../../base/errors";
import type { Attributes, Op, OpCase } from "../../op/declaration";
import { OPS, withTests } from "../../testing/ops";
import { Recorder } from "../../tape/tape";
import { nearestNames } from "../../base/nearest";
import { UsageError } from "../options";
import { exportsOf } from "../plugin/module";

/** Shapes of inputs, by slot. */
export type Shapes = Readonly<Record<string, readonly number[]>>;

/** The ops that `safetape bench` times: all, a named one, or those that a module exports. @throws UsageError if there are none. */
export async function subjectOps(what: string | undefined): Promise<readonly Op[]> {
  if (what === undefined) return OPS;
  if (/[\\/]|\.[cm]?[jt]s$/.test(what)) return opsOfModule(what);
  return [shippedOp(what)];
}

/** @throws UsageError for a name that no op has, with the nearest names. */
export function shippedOp(name: string): (typeof OPS)[number] {
  const op = OPS.find((candidate) => candidate.name === name);
  if (op) return op;
  const names = OPS.map((candidate) => candidate.name);
  throw new UsageError(
    `There is no op ${name.slice(0, 200)}.`,
    `The nearest are ${nearestNames(name, names).join(", ")}.`,
  );
}

async function opsOfModule(file: string): Promise<readonly Op[]> {
  const exported = await exportsOf(file, "a module that exports ops made by defineOp");
  // An op may be exported by its name and as the default.
  const ops = [...new Set(Object.values(exported))].filter(isOp);
  if (ops.length > 0) return ops;
  throw new UsageError(
    `${file} exports no op.`,
    "Export what defineOp returns: export const softSign = defineOp({ ... }).",
  );
}

const REQUIRED: Readonly<Record<string, (value: unknown) => boolean>> = {
  name: (value) => typeof value === "string",
  inputs: (value) => typeof value === "object" && value !== null,
  outputs: Array.isArray,
  infer: (value) => typeof value === "function",
  forward: (value) => typeof value === "function",
  gradients: Array.isArray,
  flops: (value) => typeof value === "function",
};

const isOp = (value: unknown): value is Op =>
  typeof value === "object" &&
  value !== null &&
  // Any object has properties by name, of unknown types.
  Object.entries(REQUIRED).every(([key, isRight]) => isRight((value as Readonly<Record<string, unknown>>)[key]));

/** Shapes as `x=512x768,w=3072x768`. @throws UsageError if the text is something else. */
export function readShapes(text: string): Shapes {
  const shapes = text.split(",").map((part) => {
    const [, slot, sizes] = /^(\w+)=([1-9]\d*(?:x[1-9]\d*)*)$/.exec(part.trim()) ?? [];
    if (slot === undefined || sizes === undefined) {
      throw new UsageError(
        `--shapes has ${part.slice(0, 200) || "an empty part"}.`,
        "Write shapes as x=512x768,w=3072x768.",
      );
    }
    return [slot, sizes.split("x").map(Number)] as const;
  });
  const repeated = shapes.find(([slot], i) => shapes.findIndex(([other]) => other === slot) < i);
  if (repeated) throw new UsageError(`--shapes gives ${repeated[0]} twice.`, "Begin another list with a semicolon.");
  return Object.fromEntries(shapes);
}

/**
 * A case of these shapes. Attributes and the kind of data are those of the op's first own case that has the same inputs and that the
 * shapes fit, cases for benches before others.
 * @throws UsageError for inputs that the op does not have, that are missing, or whose shapes do not fit.
 */
export function caseOfShapes(op: Op, shapes: Shapes): OpCase<Attributes> {
  checkSlots(op, shapes);
  const { cases = [] } = withTests(op);
  const hasSlots = ({ inputs }: OpCase<Attributes>): boolean =>
    Object.keys(inputs).length === Object.keys(shapes).length && Object.keys(shapes).every((slot) => slot in inputs);
  const sorted = [...cases].sort((a, b) => Number(b.bench ?? false) - Number(a.bench ?? false));
  const templates = [...sorted.filter(hasSlots), ...sorted.filter((test) => !hasSlots(test)), undefined];
  const name = Object.entries(shapes)
    .map(([slot, shape]) => `${slot}=${shape.join("x")}`)
    .join(",");
  let misfit: SafetapeError | undefined;
  for (const template of templates) {
    const inputs = Object.entries(shapes).map(([slot, shape]) => [slot, { ...template?.inputs[slot], shape }] as const);
    const test = { name, attributes: template?.attributes ?? {}, inputs: Object.fromEntries(inputs) };
    try {
      record(op, test);
      return test;
    } catch (error) {
      if (!(error instanceof SafetapeError)) throw error;
      misfit ??= error;
    }
  }
  throw new UsageError(`--shapes ${name} does not fit: ${misfit?.fact}`, misfit?.remedy ?? "");
}

/** @throws UsageError for an input that the op does not have, or that is missing. */
function checkSlots(op: Op, shapes: Shapes): void {
  const known = Object.entries(op.inputs).map(([slot, { optional }]) => (optional ? `${slot} (optional)` : slot));
  const remedy = `Its inputs are ${known.join(", ")}.`;
  const unknown = Object.keys(shapes).find((slot) => !(slot in op.inputs));
  if (unknown !== undefined) throw new UsageError(`${op.name} has no input ${unknown}.`, remedy);
  const missing = Object.entries(op.inputs).find(([slot, { optional }]) => !optional && !(slot in shapes));
  if (missing) throw new UsageError(`--shapes gives no shape for ${missing[0]} of ${op.name}.`, remedy);
}

/** Records a case on a tape of its own. @throws ShapeError, DtypeError or ConfigError if its inputs do not fit. */
function record(op: Op, test: OpCase<Attributes>): void {
  const recorder = new Recorder();
  const values = Object.entries(test.inputs).map(([slot, { shape, format }]) => {
    const dtype = format ?? op.inputs[slot]?.dtype ?? "f32";
    return [slot, recorder.parameter(slot, shape, dtype)] as const;
  });
  recorder.record(op, Object.fromEntries(values), test.attributes);
}
