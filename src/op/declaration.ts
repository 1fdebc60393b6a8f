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

/** What may parametrise an op beside its inputs. */
export type Attributes = Readonly<Record<string, number | string | boolean>>;

/** What is known of a node when its output shapes are inferred. */
export interface InferContext<A extends Attributes> {
  readonly attributes: A;
  has(slot: string): boolean;
  /** @throws ShapeError when the slot is not bound. */
  spec(slot: string): TensorSpec;
}

/** What is known of a node when its launches are built: inputs, outputs, temps and gradients, by slot name. */
export interface LaunchContext<A extends Attributes> extends InferContext<A> {
  readonly limits: Limits;
  /** Add to the target instead of overwriting it. */
  readonly accumulate: boolean;
  /** The target's buffer already holds the value that `overwrites` names. */
  readonly inPlace: boolean;
}

/** An input slot. */
export interface InputSlot {
  /** Default `f32`. */
  readonly dtype?: Dtype;
  /** Formats of fewer bits in which a frozen weight may be bound to it as well. */
  readonly formats?: readonly WeightFormat[];
  /** Whether a gradient with respect to it exists. */
  readonly gradient?: boolean;
  readonly optional?: boolean;
  /** The op writes this input in place (optimizer steps); such an op has no gradient. */
  readonly mutated?: boolean;
}

/** A scratch value that several launches of one node share, made only if one that reads it is run. */
export interface Temp<A extends Attributes> {
  /** Forward slots, gradients of outputs (`dy`) and earlier temps that its launches read. */
  readonly reads: readonly string[];
  spec(context: InferContext<A>): TensorSpec;
  /** Empty for a temp that the forward launches write themselves. */
  launches(context: LaunchContext<A>): Launch[];
  flops?(context: InferContext<A>): number;
}

/**
 * How one gradient (or several at once) is made. `reads` decides what a training step keeps: it lists the forward
 * slots and temps that these launches read; the gradient of the first output (`dy` for output `y`) may be read always.
 */
export interface GradientRule<A extends Attributes> {
  /** Input slots whose gradients (`dx` for slot `x`) these launches write. */
  readonly of: readonly string[];
  reads(attributes: A): readonly string[];
  /** The gradient is `dy` itself: no launch, no bytes. */
  readonly passesThrough?: boolean;
  /** The launches honour `LaunchContext.accumulate`. */
  readonly accumulates?: boolean;
  /** A value (`dy`, or a slot of `reads`) whose buffer the gradient may take over where nothing reads it later. */
  readonly overwrites?: string;
  launches?(context: LaunchContext<A>): Launch[];
  /** Floating-point operations of these launches. */
  flops?(context: InferContext<A>): number;
}

/** A tensor for a reference or a case: plain numbers in row-major order. */
export interface HostTensor {
  readonly shape: Shape;
  readonly data: Float64Array;
}

/**
 * How a case fills an input: standard normal numbers, whole numbers below `below`, or given values; and how it is stored
 * where that is not f32.
 */
export type CaseInput = { readonly shape: Shape; readonly format?: WeightFormat } & (
  | { readonly scale?: number; readonly offset?: number }
  | { readonly below: number }
  | { readonly values: readonly number[] }
);

/** One set of inputs on which an op is tested (forward, gradients, frozen subsets, split bindings) or benchmarked. */
export interface OpCase<A extends Attributes> {
  readonly name: string;
  readonly attributes: A;
  readonly inputs: Readonly<Record<string, CaseInput>>;
  /** Only timed, not tested: too large for the float64 reference. */
  readonly bench?: boolean;
  /** Largest error relative to the largest reference value; default 2e-5. */
  readonly tolerance?: number;
}

/** Inputs that must be refused, and a part of the message that they get. */
export interface MalformedCase<A extends Attributes> {
  readonly name: string;
  readonly attributes: A;
  readonly inputs: Readonly<Record<string, TensorSpec>>;
  readonly message: RegExp;
}

/**
 * An op in one place. Autograd, planner, tests and benches derive from this declaration alone; its WGSL lies in
 * `kernels/` under the same base name.
 */
export interface Op<A extends Attributes = Attributes> {
  readonly name: string;
  readonly inputs: Readonly<Record<string, InputSlot>>;
  /** Output slots; the first carries the gradient, the others exist for gradients that read them. */
  readonly outputs: readonly string[];
  /** @throws ShapeError, DtypeError or ConfigError when the inputs do not fit. */
  infer(context: InferContext<A>): Readonly<Record<string, TensorSpec>>;
  readonly temps?: Readonly<Record<string, Temp<A>>>;
  /** Temps that the forward launches use. */
  readonly forwardTemps?: readonly string[];
  forward(context: LaunchContext<A>): Launch[];
  /** An input whose buffer the first output may take over where nothing reads it later. */
  readonly overwrites?: string;
  readonly gradients: readonly GradientRule<A>[];
  /** Floating-point operations of the forward launches. */
  flops(context: InferContext<A>): number;
  /** Forward in float64 with plain loops: the oracle of the tests. Mutated inputs are returned under their names. */
  reference(inputs: Readonly<Record<string, HostTensor>>, attributes: A): Readonly<Record<string, HostTensor>>;
  readonly cases: readonly OpCase<A>[];
  readonly malformed: readonly MalformedCase<A>[];
}

/** Declares an op; the identity, for its type. */
export function defineOp<A extends Attributes>(op: Op<A>): Op<A> {
  return op;
}
