import { ConfigError, SafetapeError } from "../base/errors";
import type { Attributes, Op, OpCase } from "../op/declaration";
import { Recorder } from "../tape/tape";
import { withTests } from "./ops";

/** Shapes of inputs, by slot. */
export type Shapes = Readonly<Record<string, readonly number[]>>;

/** Shapes as `x=512x768,w=3072x768`. @throws ConfigError if the text is something else. */
export function readShapes(text: string): Shapes {
  const shapes = text.split(",").map((part) => {
    const [, slot, sizes] = /^(\w+)=([1-9]\d*(?:x[1-9]\d*)*)$/.exec(part.trim()) ?? [];
    if (slot === undefined || sizes === undefined) {
      throw new ConfigError(
        `The shapes have ${part.slice(0, 200) || "an empty part"}.`,
        "Write shapes as x=512x768,w=3072x768.",
      );
    }
    return [slot, sizes.split("x").map(Number)] as const;
  });
  const repeated = shapes.find(([slot], i) => shapes.findIndex(([other]) => other === slot) < i);
  if (repeated) throw new ConfigError(`The shapes give ${repeated[0]} twice.`, "Begin another list with a semicolon.");
  return Object.fromEntries(shapes);
}

/**
 * A case of these shapes. Attributes and the kind of data are those of the op's first own case that has the same inputs and that the
 * shapes fit, cases for benches before others.
 * @throws ConfigError for inputs that the op does not have, that are missing, or whose shapes do not fit.
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
  throw new ConfigError(`The shapes ${name} do not fit: ${misfit?.fact}`, misfit?.remedy ?? "");
}

/** @throws ConfigError for an input that the op does not have, or that is missing. */
function checkSlots(op: Op, shapes: Shapes): void {
  const known = Object.entries(op.inputs).map(([slot, { optional }]) => (optional ? `${slot} (optional)` : slot));
  const remedy = `Its inputs are ${known.join(", ")}.`;
  const unknown = Object.keys(shapes).find((slot) => !(slot in op.inputs));
  if (unknown !== undefined) throw new ConfigError(`${op.name} has no input ${unknown}.`, remedy);
  const missing = Object.entries(op.inputs).find(([slot, { optional }]) => !optional && !(slot in shapes));
  if (missing) throw new ConfigError(`The shapes have none for ${missing[0]} of ${op.name}.`, remedy);
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
