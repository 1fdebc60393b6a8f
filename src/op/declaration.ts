import type { Dtype } from "../base/dtype";
import type { WeightFormat } from "../base/packed";
import type { Shape } from "../base/shape";
import type { Launch } from "./launch";
import type { Limits } from "./limits";

/** Shape and element type of a value. */
export interface TensorSpec {
  readonly shape: Shape;
  readonly dtype: Dtype;
}

/** Parameters of an op other than its input tensors. */
export type Attributes = Readonly<Record<string, number | string | boolean | readonly number[]>>;

/** The attributes of an op that has none. */
export type NoAttributes = Readonly<Record<string, never>>;

/** Shapes and types of the tensors that are bound to a node's slots. */
export interface SlotSpecs {
  /** Whether a tensor is bound to an optional slot. */
  has(slot: string): boolean;
  /** @throws ShapeError if no tensor is bound to the slot. */
  spec(slot: string): TensorSpec;
}

/** A node of the tape, as seen when its output shapes are inferred. */
export interface InferContext<A extends Attributes = Attributes> extends SlotSpecs {
  readonly attributes: A;
}

/** A node of the tape, as seen when its launches are built. `spec` covers inputs, outputs, temps and gradients. */
export interface LaunchContext<A extends Attributes = Attributes> extends InferContext<A> {
  readonly limits: Limits;
  /** Whether to add to the target instead of overwriting it. */
  readonly accumulate: boolean;
  /** Whether the target's buffer is the one that holds the value named by `overwrites`. */
  readonly inPlace: boolean;
}

/** An input slot of an op. */
export interface InputSlot {
  /** Default `f32`. */
  readonly dtype?: Dtype;
  /** Formats, other than `dtype`, in which a frozen weight may be bound to this slot. */
  readonly formats?: readonly WeightFormat[];
  /** Whether the op has a gradient with respect to this input; default false. */
  readonly gradient?: boolean;
  /** Whether the slot may be left unbound; default false. */
  readonly optional?: boolean;
  /** Whether the op writes this input in place, as optimizer steps do. Such an op has no gradients. Default false. */
  readonly mutated?: boolean;
}

/** The input slots of an op, by name. */
export type InputSlots = Readonly<Record<string, InputSlot>>;

/**
 * A `T` for each slot of an op; those that are declared `optional: true` may be left out, or hold an `O`. Any names where the compiler
 * does not know the slots, as in `Op` without parameters.
 */
export type BySlot<I extends InputSlots, T, O = T> = string extends keyof I
  ? Readonly<Record<string, T | O>>
  : { readonly [S in keyof I as I[S] extends { readonly optional: true } ? never : S]: T } & {
      readonly [S in keyof I as I[S] extends { readonly optional: true } ? S : never]?: O;
    };

/** A scratch tensor that several launches of one node share. It is computed only if a launch that runs reads it. */
export interface Temp<A extends Attributes> {
  /** Forward slots, gradients of outputs (`dy`) and earlier temps that its launches read. */
  readonly reads: readonly string[];
  spec(context: InferContext<A>): TensorSpec;
  /** Launches that compute the temp; none if the forward launches write it. */
  launches(context: LaunchContext<A>): Launch[];
  /** Floating-point operations of these launches; default 0. */
  flops?(context: InferContext<A>): number;
}

/**
 * How the gradient with respect to one input, or several, is computed. `reads` decides what a training step keeps: it
 * lists the forward slots and temps that these launches read. In addition they may read the gradient of the first
 * output (`dy` for output `y`).
 */
export interface GradientRule<A extends Attributes> {
  /** Input slots with respect to which these launches differentiate; they write `dx` for slot `x`. */
  readonly wrt: readonly string[];
  reads(attributes: A): readonly string[];
  /** Whether the gradient is `dy` itself, which takes neither a launch nor a buffer. */
  readonly passesThrough?: boolean;
  /** Whether the launches honour `LaunchContext.accumulate`. */
  readonly accumulates?: boolean;
  /** `dy` or a slot of `reads` whose buffer the gradient may reuse if nothing reads that value later. */
  readonly overwrites?: string;
  launches?(context: LaunchContext<A>): Launch[];
  /** Floating-point operations of these launches. */
  flops?(context: InferContext<A>): number;
}

/** How an op gives back one of its inputs from its first output and its other inputs (reversible layers). */
export interface Inverse<A extends Attributes> {
  /** The input slot, which has the shape of the first output. */
  readonly of: string;
  /** Launches that write the slot; with `LaunchContext.inPlace`, into the first output's buffer. */
  launches(context: LaunchContext<A>): Launch[];
}

/** A tensor in float64 on the host, in row-major order, for the references that tests compare with. */
export interface ReferenceTensor {
  readonly shape: Shape;
  readonly data: Float64Array;
}

/**
 * An input of a case. It is filled with normal numbers (times `scale`, plus `offset`), with random integers from 0 to
 * `below` - 1, or with `values`, and stored in `format` (default: the slot's dtype).
 */
export type CaseInput = { readonly shape: Shape; readonly format?: WeightFormat } & (
  | { readonly scale?: number; readonly offset?: number }
  | { readonly below: number }
  | { readonly values: readonly number[] }
);

/** Inputs on which an op is tested (forward, gradients, frozen subsets, split bindings) or benchmarked. */
export interface OpCase<A extends Attributes> {
  readonly name: string;
  readonly attributes: A;
  readonly inputs: Readonly<Record<string, CaseInput>>;
  /** Whether the case is only timed, because it is too large for the float64 reference; default false. */
  readonly bench?: boolean;
  /** Maximum error relative to the largest reference value; default 2e-5. */
  readonly tolerance?: number;
}

/** Inputs that an op must refuse. */
export interface MalformedCase<A extends Attributes> {
  readonly name: string;
  readonly attributes: A;
  readonly inputs: Readonly<Record<string, TensorSpec>>;
  /** Matches the error message. */
  readonly message: RegExp;
}

/**
 * Declaration of an op. Autograd, planner, tests and benchmarks derive from it alone. Its WGSL is in `kernels/`, in the
 * file of the same name. `A` and `I` are the types of its attributes and slots; without them it is any op.
 */
export interface Op<A extends Attributes = Attributes, I extends InputSlots = InputSlots> {
  readonly name: string;
  readonly inputs: I;
  /** Output slots. Gradients flow through the first; the others exist for gradient rules that read them. */
  readonly outputs: readonly string[];
  /**
   * Shapes and types of the outputs.
   *
   * @throws ShapeError, DtypeError or ConfigError if the inputs do not fit.
   */
  infer(context: InferContext<A>): Readonly<Record<string, TensorSpec>>;
  readonly temps?: Readonly<Record<string, Temp<A>>>;
  /** Temps that the forward launches read or write. */
  readonly forwardTemps?: readonly string[];
  forward(context: LaunchContext<A>): Launch[];
  /** An input whose buffer the first output may reuse if nothing reads that input later. */
  readonly overwrites?: string;
  readonly gradients: readonly GradientRule<A>[];
  /** Left out by ops of which no input follows from the output. */
  readonly inverse?: Inverse<A>;
  /** Floating-point operations of the forward launches. */
  flops(context: InferContext<A>): number;
  /** The forward pass in float64, in plain loops, for tests. Returns the outputs, and mutated inputs by their slots. */
  reference?(inputs: BySlot<I, ReferenceTensor>, attributes: A): Readonly<Record<string, ReferenceTensor>>;
  readonly cases?: readonly OpCase<A>[];
  readonly malformed?: readonly MalformedCase<A>[];
}

/** What only tests and benches read of an op. */
export type OpTests<A extends Attributes = Attributes, I extends InputSlots = InputSlots> = Required<
  Pick<Op<A, I>, "reference" | "cases" | "malformed">
>;

/** What tests and benches read of an op of this type. */
export type TestsOf<O extends Op> = O extends Op<infer A, infer I> ? OpTests<A, I> : never;

/** An op with all that tests and benches read. */
export type TestedOp<A extends Attributes = Attributes> = Op<A> & OpTests<A>;

/** An op where it is declared: `infer` says of which type its attributes are, `inputs` what slots there are. */
export interface OpDeclaration<A extends Attributes, I extends InputSlots> extends Op<NoInfer<A>, I> {
  infer(context: InferContext<A>): Readonly<Record<string, TensorSpec>>;
  readonly overwrites?: NoInfer<keyof I & string>;
  readonly gradients: readonly (GradientRule<NoInfer<A>> & { readonly wrt: readonly NoInfer<keyof I>[] })[];
  readonly inverse?: Inverse<NoInfer<A>> & { readonly of: NoInfer<keyof I> };
}

/**
 * Returns `op`, typed by its slots and attributes: where it is recorded, a misspelt or missing slot is an error of the compiler.
 * An op with attributes says at `infer` of which type they are: `infer(context: InferContext<ScaleAttributes>)`. What only tests
 * read (`reference`, `cases`, `malformed`) may be left out.
 */
export function defineOp<const I extends InputSlots, A extends Attributes>(
  op: OpDeclaration<A, I>,
): Op<Attributes extends A ? NoAttributes : A, I>;
export function defineOp(op: Op): Op {
  return op;
}
