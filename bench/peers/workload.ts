import { Random } from "../../src/base/random";
import type { TensorData } from "../../src/tensor";

/** A tensor as the host holds it. */
export interface Input {
  readonly shape: readonly number[];
  readonly data: TensorData;
}

export type Inputs = Readonly<Record<string, Input>>;

/** What every engine here knows how to compute, `step` aside. */
export type Family = "product" | "lora" | "attention" | "layer_norm" | "cross_entropy";

/** One thing to compute. What it computes from lies on the GPU beforehand, and its results stay there. */
export interface Workload {
  readonly name: string;
  readonly family: Family | "step";
  /** As this engine takes them, and as its peers do. */
  readonly inputs: Inputs;
  readonly peerInputs: Inputs;
  /** The gradient of the result, where it is no loss. */
  readonly dy?: Input;
  readonly peerDy?: Input;
  /** Inputs whose gradients are computed; none: forward alone. */
  readonly learn: readonly string[];
  readonly attributes: Readonly<Record<string, number>>;
  /** The peers' results in this engine's layout. */
  readonly fromPeer?: (data: Float32Array) => Float32Array;
  readonly flops: number;
  /** How many times the best peer's speed is aimed at. */
  readonly target: number;
}

/** A workload made ready on one engine. */
export interface Runner {
  /** Computes once. Resolves when the GPU is done. */
  run(): Promise<void>;
  /** The result, or the gradients in the order of `learn`; of a training step, its first losses. */
  outputs(): Promise<Float32Array[]>;
  dispose(): void;
}

/** Timed runs of a workload on an engine, at least. */
export const FEWEST_RUNS = 3;

export interface BenchedEngine {
  readonly name: string;
  /** How a run's end is awaited. */
  readonly sync: string;
  /** @throws Error whose message says why the engine cannot compute it. */
  prepare(workload: Workload): Promise<Runner>;
  /** @throws Error where its device has refused a command since. */
  check?(): void;
}

/** Uniform in [-scale, scale), the same numbers every time. */
export function uniform(shape: readonly number[], scale: number, stream: number): Input {
  const random = new Random(1, stream);
  const length = shape.reduce((a, b) => a * b, 1);
  return { shape, data: Float32Array.from({ length }, () => scale * (2 * random.uniform() - 1)) };
}

/** Where peers lay their results out as this engine does. */
export const asIs = (data: Float32Array): Float32Array => data;
