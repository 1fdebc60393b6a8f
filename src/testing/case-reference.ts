import { Random } from "../base/random";
import { relativeError } from "../base/relative-error";
import { elements } from "../base/shape";
import type { Attributes, OpCase, ReferenceTensor, TestedOp } from "../op/declaration";
import { differentiable } from "./case-plan";
import { caseInputs } from "./run-case";
import type { CaseOptions, CaseRun } from "./run-case";

/** Maximum error of an output, relative to its largest expected value, where a case has no tolerance of its own. */
export const TOLERANCE = 2e-5;
/** Maximum error of a gradient along a direction, relative to the lengths of both. */
export const GRADIENT_TOLERANCE = 1e-4;
/** Step h of central differences in float64: both the truncation error, h^2, and the rounding error, 1e-16 / h, are small. */
const STEP = 1e-5;

/** A gradient along a random direction. */
interface Derivative {
  readonly direction: Float64Array;
  readonly expected: number;
}

/** What a case has to compute: the results of its op's float64 reference, on inputs rounded to what a device stores. */
export class CaseReference {
  readonly inputs: Readonly<Record<string, ReferenceTensor>>;
  readonly #outputs: Readonly<Record<string, ReferenceTensor>>;
  readonly #derivatives = new Map<string, Derivative>();
  #dy: Float32Array | undefined;

  /** @param seed of the random inputs. */
  constructor(
    private readonly op: TestedOp,
    private readonly test: OpCase<Attributes>,
    seed = 1,
  ) {
    this.inputs = caseInputs(op, test, seed);
    this.#outputs = op.reference(this.inputs, test.attributes);
  }

  /** The slots with respect to which the case is differentiated: none for an op without gradients. */
  get trainable(): string[] {
    return this.op.gradients.length > 0 ? differentiable(this.op, this.test) : [];
  }

  /** A random gradient of the first output, the same in every call; empty for an op without outputs. */
  get dy(): Float32Array {
    const random = new Random(7);
    const { shape } = this.#outputs[this.op.outputs[0] ?? ""] ?? { shape: [0] };
    return (this.#dy ??= Float32Array.from({ length: elements(shape) }, () => random.normal()));
  }

  /** What a run needs to compute all gradients. */
  get differentiation(): Pick<CaseOptions, "trainable" | "dy"> {
    const { trainable, dy } = this;
    return trainable.length > 0 ? { trainable, dy } : {};
  }

  /** Relative error of each output and mutated input, by slot; Infinity for a missing one, or one of another size. */
  forwardErrors(run: CaseRun): [string, number][] {
    return Object.entries(this.#outputs).map(([slot, { data }]) => {
      const actual = run.outputs.get(slot) ?? run.mutated.get(slot);
      return [slot, actual?.length === data.length ? relativeError(actual, data) : Infinity];
    });
  }

  /**
   * Relative error, by slot, of each gradient along a random direction, against the central difference of <dy, y> in that
   * direction; Infinity for a missing gradient.
   */
  gradientErrors(run: CaseRun): [string, number][] {
    return this.trainable.map((slot) => {
      const gradient = run.gradients.get(slot);
      return [slot, gradient ? directionalError(gradient, this.#derivative(slot)) : Infinity];
    });
  }

  #derivative(slot: string): Derivative {
    const derivative = this.#derivatives.get(slot) ?? this.#differentiate(slot);
    this.#derivatives.set(slot, derivative);
    return derivative;
  }

  #differentiate(slot: string): Derivative {
    const { op, test, dy } = this;
    const random = new Random(99);
    const { shape, data } = this.inputs[slot]!;
    const direction = data.map(() => random.normal());
    const objective = (sign: number): number => {
      const moved = { shape, data: data.map((v, i) => v + sign * STEP * direction[i]!) };
      const output = op.reference({ ...this.inputs, [slot]: moved }, test.attributes)[op.outputs[0]!]!;
      return output.data.reduce((sum, v, i) => sum + v * dy[i]!, 0);
    };
    return { direction, expected: (objective(1) - objective(-1)) / (2 * STEP) };
  }
}

function directionalError(gradient: Float32Array, { direction, expected }: Derivative): number {
  const actual = gradient.reduce((sum, v, i) => sum + v * direction[i]!, 0);
  const size = Math.sqrt(gradient.reduce((sum, v) => sum + v * v, 0) * direction.reduce((sum, v) => sum + v * v, 0));
  return Math.abs(actual - expected) / Math.max(size, Math.abs(expected), 1e-6);
}
