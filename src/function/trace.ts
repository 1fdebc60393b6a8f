import { ConfigError } from "../base/errors";
import type { Shape } from "../base/shape";
import { shown } from "../base/shown";
import type { TensorSpec } from "../op/declaration";
import { scale } from "../ops/scale";
import { Recorder } from "../tape/tape";
import type { Value } from "../tape/tape";
import type { TensorData } from "../tensor";
import { mapTree } from "./parameters";
import type { ParameterTree, ParameterValues } from "./parameters";

/** What a body returns: one value, or several by name. */
export type BodyResult = Value | Readonly<Record<string, Value>>;

/** Names of the outputs of a body. */
export type OutputName<R extends BodyResult> = R extends Value ? "output" : keyof R & string;

/** What a body may use besides inputs and parameters. */
export interface Scope {
  /** Whether gradients are wanted: dropout belongs here. */
  readonly isTraining: boolean;
  /** Names what `body` records, for `explain` and traces. */
  label<T>(name: string, body: () => T): T;
  /** Makes what `body` records a section, which the backward pass can recompute instead of keeping it. */
  section<T>(name: string, body: () => T): T;
  /** A tensor whose values are the same in every call. */
  constant(data: TensorData, shape: Shape): Value;
}

/** Records a function. It must record the same ops whenever shapes and `scope.isTraining` are the same. */
export type Body<I, P extends ParameterTree, R extends BodyResult> = (
  inputs: { readonly [K in keyof I]: Value },
  parameters: ParameterValues<P>,
  scope: Scope,
) => R;

/** A body that was recorded for some shapes. */
export interface Trace {
  readonly recorder: Recorder;
  readonly outputs: ReadonlyMap<string, Value>;
  /** Names of the sections. */
  readonly sections: readonly string[];
}

/** Records a body. @throws ConfigError if it returns something else than values; whatever it throws. */
export function trace<I, P extends ParameterTree, R extends BodyResult>(
  inputs: ReadonlyMap<string, TensorSpec>,
  parameters: P,
  body: Body<I, P, R>,
  isTraining: boolean,
): Trace {
  const recorder = new Recorder();
  const sections: string[] = [];
  const scope: Scope = {
    isTraining,
    label: (name, part) => recorder.labelled(name, part),
    section(name, part) {
      sections.push(name);
      return recorder.section(name, () => recorder.labelled(name, part));
    },
    constant: (data, shape) => recorder.constant(data, shape),
  };
  const result = body(
    // One value for each declared input, by its name.
    Object.fromEntries([...inputs].map(([name, { shape, dtype }]) => [name, recorder.input(name, shape, dtype)])) as {
      readonly [K in keyof I]: Value;
    },
    // A tree has the form of its parameters.
    mapTree(parameters, (name, parameter) =>
      recorder.parameter(name, parameter.shape, "dtype" in parameter ? parameter.dtype : (parameter.format ?? "f32")),
    ) as ParameterValues<P>,
    scope,
  );
  return {
    recorder,
    outputs: new Map(named(result).map(([name, value]) => [name, asOutput(recorder, name, value)])),
    sections,
  };
}

/** Whether a body returned one value rather than several by name, or anything else. */
export const isValue = (result: unknown): result is Value =>
  typeof result === "object" && result !== null && "id" in result && typeof result.id === "number";

/** The outputs by name. A body without types may return anything. */
function named(result: unknown): [string, unknown][] {
  if (isValue(result)) return [["output", result]];
  if (typeof result === "object" && result !== null && Object.keys(result).length > 0) return Object.entries(result);
  const what = result instanceof Promise ? "a promise" : shown(result);
  throw new ConfigError(
    `The body returns ${what}.`,
    "Return what an op returned, or several by name: return { logits, loss }.",
  );
}

/** An output, which must be a value that a run computes. */
function asOutput(recorder: Recorder, name: string, value: unknown): Value {
  if (!isValue(value) || recorder.values[value.id] !== value) {
    throw new ConfigError(
      `The output ${name} of the body is no value.`,
      "Return what an op returned, or several by name.",
    );
  }
  return value.origin.kind === "node" ? value : recorder.apply(scale, { x: value }, { factor: 1 });
}
