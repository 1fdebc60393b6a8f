import { ConfigError, DtypeError, ShapeError } from "../base/errors";
import type { Dtype, TensorData } from "../base/dtype";
import { elements, formatShape } from "../base/shape";
import { shown } from "../base/shown";
import type { Shape } from "../base/shape";
import type { Attributes, BySlot, InferContext, InputSlots, Op, TensorSpec } from "../op/declaration";

/** Where a value comes from: a parameter, which outlives a run, an input of each run, or an output slot of a node. */
export type Origin =
  | { readonly kind: "parameter"; readonly name: string }
  | { readonly kind: "input"; readonly name: string }
  | { readonly kind: "node"; readonly node: number; readonly slot: string };

/** A symbolic tensor on a tape: shape and element type, no memory. */
export interface Value extends TensorSpec {
  readonly id: number;
  readonly origin: Origin;
}

/** One op on symbolic values. */
export interface Node {
  readonly id: number;
  readonly op: Op;
  readonly attributes: Attributes;
  /** Input slot -> value id. */
  readonly inputs: Readonly<Record<string, number>>;
  /** Output slot -> value id. */
  readonly outputs: Readonly<Record<string, number>>;
  /** The part of the model that recorded it, such as `bert.encoder.layer.3.attention.self.query`. */
  readonly label: string;
  /** Names of the sections that it belongs to, outermost first. A section is a part that can be recomputed. */
  readonly sections: readonly string[];
}

/** A recorded computation: a list of ops on symbolic values. Recording does no GPU work. */
export interface Tape {
  readonly values: readonly Value[];
  readonly nodes: readonly Node[];
  /** Data of inputs that are the same in every run, by name. */
  readonly constants: ReadonlyMap<string, TensorData>;
  /** Names of the sections that every plan recomputes: the parts of reversible layers. */
  readonly reversible: ReadonlySet<string>;
  /** Values that the backward pass rebuilds instead of keeping: value id -> id of the node whose inverse gives it. */
  readonly rebuilt: ReadonlyMap<number, number>;
}

/** The recorder of each value, so that functions of values need not be given it. */
const recorders = new WeakMap<Value, Recorder>();

/** Records a tape. A name of a parameter or an input always means the same value. */
export class Recorder implements Tape {
  readonly values: Value[] = [];
  readonly nodes: Node[] = [];
  readonly constants = new Map<string, TensorData>();
  readonly reversible = new Set<string>();
  readonly rebuilt = new Map<number, number>();
  #named = new Map<string, Value>();
  #labels: string[] = [];
  #sections: readonly string[] = [];
  #rename = (name: string): string => name;

  /**
   * A tensor that outlives the run, such as a weight, an adapter's tensor or an optimizer moment.
   * @throws ShapeError when the name is already recorded with another shape or type.
   */
  parameter(name: string, shape: Shape, dtype: Dtype = "f32"): Value {
    return this.#lookUp("parameter", this.#rename(name), shape, dtype);
  }

  /** A tensor that the caller provides for each run. @throws ShapeError as `parameter` does. */
  input(name: string, shape: Shape, dtype: Dtype = "f32"): Value {
    return this.#lookUp("input", name, shape, dtype);
  }

  /** A tensor whose values are the same in every run, in row-major order. @throws ShapeError for another number of values. */
  constant(data: TensorData, shape: Shape): Value {
    if (data.length !== elements(shape)) {
      throw new ShapeError(
        `${data.length} values do not fill a constant ${formatShape(shape)}.`,
        `Give ${elements(shape)} values in row-major order.`,
      );
    }
    const name = `constant ${this.constants.size}`;
    this.constants.set(name, data);
    return this.input(name, shape, data instanceof Float32Array ? "f32" : data instanceof Int32Array ? "i32" : "u32");
  }

  #lookUp(kind: "parameter" | "input", name: string, shape: Shape, dtype: Dtype): Value {
    const key = `${kind} ${name}`;
    const recorded = this.#named.get(key);
    if (recorded) {
      if (formatShape(recorded.shape) === formatShape(shape) && recorded.dtype === dtype) return recorded;
      throw new ShapeError(
        `The ${key} is recorded as ${recorded.dtype} ${formatShape(recorded.shape)} and requested as ${dtype} ${formatShape(shape)}.`,
        "Use one name for one tensor.",
      );
    }
    const value = this.#value({ shape, dtype }, { kind, name });
    this.#named.set(key, value);
    return value;
  }

  /**
   * Records an op and returns its outputs by slot.
   * @throws ShapeError, DtypeError or ConfigError when the inputs do not fit.
   */
  record<A extends Attributes, I extends InputSlots>(
    op: Op<A, I>,
    inputs: BySlot<I, Value, Value | undefined>,
    attributes: NoInfer<A>,
  ): Readonly<Record<string, Value>>;
  record(
    op: Op,
    inputs: Readonly<Record<string, Value | undefined>>,
    attributes: Attributes,
  ): Readonly<Record<string, Value>> {
    const bound = Object.entries(inputs).filter((entry): entry is [string, Value] => entry[1] !== undefined);
    checkSlots(op, Object.fromEntries(bound));
    const id = this.nodes.length;
    const specs = Object.entries(op.infer(inferContext(op, Object.fromEntries(bound), attributes)));
    const outputs = specs.map(([slot, spec]) => [slot, this.#value(spec, { kind: "node", node: id, slot })] as const);
    this.nodes.push({
      id,
      op,
      attributes,
      inputs: Object.fromEntries(bound.map(([slot, value]) => [slot, value.id])),
      outputs: Object.fromEntries(outputs.map(([slot, value]) => [slot, value.id])),
      label: this.#labels.at(-1) ?? op.name,
      sections: this.#sections,
    });
    return Object.fromEntries(outputs);
  }

  /** Records an op and returns its first output. Throws as `record` does. */
  apply<A extends Attributes, I extends InputSlots>(
    op: Op<A, I>,
    inputs: BySlot<I, Value, Value | undefined>,
    attributes: NoInfer<A>,
  ): Value;
  apply(op: Op, inputs: Readonly<Record<string, Value | undefined>>, attributes: Attributes): Value {
    return this.record(op, inputs, attributes)[op.outputs[0]!]!;
  }

  /** Labels the nodes that `body` records. */
  labelled<T>(label: string, body: () => T): T {
    this.#labels.push(label);
    try {
      return body();
    } finally {
      this.#labels.pop();
    }
  }

  /** Makes the nodes that `body` records a section, which a plan can recompute. */
  section<T>(name: string, body: () => T): T {
    const outer = this.#sections;
    this.#sections = [...outer, name];
    try {
      return body();
    } finally {
      this.#sections = outer;
    }
  }

  /** Makes the nodes that `body` records a section that every plan recomputes. */
  reversibleSection<T>(name: string, body: () => T): T {
    this.reversible.add(name);
    return this.section(name, body);
  }

  /**
   * Says that the backward pass rebuilds a value instead of keeping it: by the inverse of the op that made `output` of it. Where
   * a gradient reads the value before that op's section is recomputed, it is kept nevertheless.
   * @throws ConfigError where `output` is not made of the value by an op with such an inverse.
   */
  rebuild(value: Value, output: Value): void {
    const node = output.origin.kind === "node" ? this.nodes[output.origin.node] : undefined;
    const slot = node?.op.inverse?.of;
    if (!node || slot === undefined || node.inputs[slot] !== value.id) {
      throw new ConfigError(
        `${node?.op.name ?? "A parameter or an input"} does not give value ${value.id} back.`,
        "Rebuild a value from the output of an op with an inverse, such as add.",
      );
    }
    this.rebuilt.set(value.id, node.id);
  }

  /** Renames the parameters that `body` records, so that one tape can hold a model twice, with different values. */
  renamed<T>(rename: (name: string) => string, body: () => T): T {
    const outer = this.#rename;
    this.#rename = rename;
    try {
      return body();
    } finally {
      this.#rename = outer;
    }
  }

  #value(spec: TensorSpec, origin: Origin): Value {
    const value: Value = { id: this.values.length, shape: spec.shape, dtype: spec.dtype, origin };
    this.values.push(value);
    recorders.set(value, this);
    return value;
  }
}

/**
 * The recorder on whose tape some values are; undefined values, as of slots that are left out, do not count.
 * @throws ConfigError where they are values of two recorders, or of none.
 */
export function recorderOf(...values: readonly (Value | undefined)[]): Recorder {
  const given = values.filter((value) => value !== undefined);
  const found = new Set(given.map((value) => recorders.get(value)));
  const [recorder] = found;
  if (recorder && found.size === 1) return recorder;
  const foreign = given.findIndex((value) => !recorders.has(value));
  const fact =
    foreign >= 0
      ? `This is no value of a recorder: ${shown(given[foreign])}.`
      : found.size > 1
        ? "The values are on the tapes of different recorders."
        : "There is no value of a recorder.";
  throw new ConfigError(
    fact,
    "Pass values that one recorder has made: its parameters, its inputs, and what ops made of them.",
  );
}

function checkSlots(
  { name, inputs: slots }: Pick<Op, "name" | "inputs">,
  inputs: Readonly<Record<string, TensorSpec>>,
): void {
  const unknown = Object.keys(inputs).find((slot) => !slots[slot]);
  if (unknown !== undefined) {
    throw new ConfigError(`${name} has no input ${unknown}.`, `Its inputs are ${Object.keys(slots).join(", ")}.`);
  }
  for (const [slot, { dtype = "f32", formats = [], optional }] of Object.entries(slots)) {
    const input = inputs[slot];
    if (!input) {
      if (optional) continue;
      throw new ShapeError(`${name}: its input ${slot} is missing.`, `Bind a ${dtype} tensor to ${slot}.`);
    }
    const dtypes: readonly Dtype[] = [dtype, ...formats];
    if (!dtypes.includes(input.dtype)) {
      throw new DtypeError(
        `${name}: ${slot} is ${input.dtype} ${formatShape(input.shape)}.`,
        `Pass it as ${[...new Set(dtypes)].join(", ")}.`,
      );
    }
    if (elements(input.shape) === 0) {
      throw new ShapeError(
        `${name}: ${slot} ${formatShape(input.shape)} has no elements.`,
        "Every axis must be at least 1; leave empty tensors out.",
      );
    }
  }
}

/** The context in which a node's output shapes are inferred. @param inputs shapes and types of the bound slots. */
export function inferContext<A extends Attributes>(
  op: Pick<Op, "name">,
  inputs: Readonly<Record<string, TensorSpec>>,
  attributes: A,
): InferContext<A> {
  return {
    attributes,
    has: (slot) => inputs[slot] !== undefined,
    spec(slot) {
      const spec = inputs[slot];
      if (!spec) throw new ShapeError(`${op.name}: its input ${slot} is missing.`, `Bind a tensor to ${slot}.`);
      return spec;
    },
  };
}
