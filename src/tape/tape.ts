import { ConfigError, DtypeError, ShapeError } from "../base/errors";
import type { Dtype } from "../base/dtype";
import { elements, formatShape } from "../base/shape";
import type { Shape } from "../base/shape";
import type { Attributes, InferContext, Op, TensorSpec } from "../op/declaration";

/** Where a value comes from. `parameter`s live on as long as a model; `input`s are given anew for every run. */
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
  /** Slot -> value id. */
  readonly inputs: Readonly<Record<string, number>>;
  readonly outputs: Readonly<Record<string, number>>;
  /** Where in the model it stands, as `bert.encoder.layer.3.attention.self.query`. */
  readonly label: string;
  /** Parts of the model that it lies in, the widest first: what can be recomputed as a whole. */
  readonly sections: readonly string[];
}

/** A recorded computation: an immutable list of ops on symbolic values. Recording does no GPU work. */
export interface Tape {
  readonly values: readonly Value[];
  readonly nodes: readonly Node[];
}

/** Records a tape. Parameters and inputs are unique by name. */
export class Recorder implements Tape {
  readonly values: Value[] = [];
  readonly nodes: Node[] = [];
  #named = new Map<string, Value>();
  #labels: string[] = [];
  #sections: readonly string[] = [];
  #rename = (name: string): string => name;

  /** A tensor that outlives the run: a weight, an adapter's tensor, an optimizer moment. */
  parameter(name: string, shape: Shape, dtype: Dtype = "f32"): Value {
    return this.#named_("parameter", this.#rename(name), shape, dtype);
  }

  /** A tensor that the caller gives for each run. */
  input(name: string, shape: Shape, dtype: Dtype = "f32"): Value {
    return this.#named_("input", name, shape, dtype);
  }

  #named_(kind: "parameter" | "input", name: string, shape: Shape, dtype: Dtype): Value {
    const key = `${kind} ${name}`;
    const known = this.#named.get(key);
    if (known) {
      if (formatShape(known.shape) !== formatShape(shape) || known.dtype !== dtype) {
        throw new ShapeError(
          `The ${key} is recorded as ${known.dtype} ${formatShape(known.shape)} and now asked for as ${dtype} ${formatShape(shape)}.`,
          "Use one name for one tensor.",
        );
      }
      return known;
    }
    const value = this.#value({ shape, dtype }, { kind, name });
    this.#named.set(key, value);
    return value;
  }

  /** Records an op and returns its outputs by slot. @throws ShapeError, DtypeError when the inputs do not fit. */
  record<A extends Attributes>(
    op: Op<A>,
    inputs: Readonly<Record<string, Value | undefined>>,
    attributes: A,
  ): Readonly<Record<string, Value>> {
    const bound = Object.entries(inputs).filter((entry): entry is [string, Value] => entry[1] !== undefined);
    checkSlots(op, Object.fromEntries(bound));
    const context: InferContext<A> = inferContext(op as Op, Object.fromEntries(bound), attributes);
    const id = this.nodes.length;
    const specs = Object.entries(op.infer(context));
    const outputs = specs.map(([slot, spec]) => [slot, this.#value(spec, { kind: "node", node: id, slot })] as const);
    this.nodes.push({
      id,
      op: op,
      attributes,
      inputs: Object.fromEntries(bound.map(([slot, value]) => [slot, value.id])),
      outputs: Object.fromEntries(outputs.map(([slot, value]) => [slot, value.id])),
      label: this.#labels.at(-1) ?? op.name,
      sections: this.#sections,
    });
    return Object.fromEntries(outputs);
  }

  /** Records an op and returns its first output. */
  apply<A extends Attributes>(op: Op<A>, inputs: Readonly<Record<string, Value | undefined>>, attributes: A): Value {
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

  /** Makes the nodes that `body` records a section. */
  section<T>(name: string, body: () => T): T {
    const outer = this.#sections;
    this.#sections = [...outer, name];
    try {
      return body();
    } finally {
      this.#sections = outer;
    }
  }

  /** Gives the parameters that `body` asks for other names: the same model twice on one tape, with other values. */
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
    return value;
  }
}

function checkSlots(op: Op, inputs: Readonly<Record<string, TensorSpec>>): void {
  for (const slot of Object.keys(inputs)) {
    if (!op.inputs[slot]) {
      throw new ConfigError(`${op.name} has no input ${slot}.`, `Its inputs are ${Object.keys(op.inputs).join(", ")}.`);
    }
  }
  for (const [slot, { dtype = "f32", optional }] of Object.entries(op.inputs)) {
    const given = inputs[slot];
    if (!given) {
      if (optional) continue;
      throw new ShapeError(`${op.name}: its input ${slot} is missing.`, `Bind a ${dtype} tensor to ${slot}.`);
    }
    const formats: readonly Dtype[] = op.inputs[slot]?.formats ?? [];
    if (given.dtype !== dtype && !formats.includes(given.dtype)) {
      throw new DtypeError(
        `${op.name}: ${slot} is ${given.dtype} ${formatShape(given.shape)}.`,
        `Pass it as ${[...new Set([dtype, ...formats])].join(", ")}.`,
      );
    }
    if (elements(given.shape) === 0) {
      throw new ShapeError(
        `${op.name}: ${slot} ${formatShape(given.shape)} has no elements.`,
        "Leave empty tensors out; every axis must be at least 1.",
      );
    }
  }
}

/** What `infer` sees of a node: its inputs' specs. */
export function inferContext<A extends Attributes>(
  op: Op,
  inputs: Readonly<Record<string, TensorSpec>>,
  attributes: A,
): InferContext<A> {
  return {
    attributes,
    has: (slot) => inputs[slot] !== undefined,
    spec(slot) {
      const found = inputs[slot];
      if (!found) throw new ShapeError(`${op.name}: its input ${slot} is missing.`, `Bind a tensor to ${slot}.`);
      return found;
    },
  };
}
