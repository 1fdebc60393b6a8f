import { Random } from "../../src/base/random";
import type { TensorData } from "../../src/tensor";

/** A tensor on the host. */
export interface Input<Data extends TensorData = TensorData> {
  readonly shape: readonly number[];
  readonly data: Data;
}

export type Inputs = Readonly<Record<string, Input>>;

/** Kinds of workloads that consist of one function, unlike `step`. */
export type Family = "product" | "lora" | "attention" | "layer_norm" | "cross_entropy";

/** A computation that engines are compared by. Its operands are on the GPU before a run, and its results stay there. */
export interface Workload {
  readonly name: string;
  readonly family: Family | "step";
  /** Operands in this engine's layout. */
  readonly inputs: Inputs;
  /** Operands in the peers' layout. */
  readonly peerInputs: Inputs;
  /** Gradient of the result, unless the result is a loss. */
  readonly dy?: Input;
  readonly peerDy?: Input;
  /** Inputs whose gradients are computed; if empty, only the forward pass runs. */
  readonly learn: readonly string[];
  readonly attributes: Readonly<Record<string, number>>;
  /** Converts a peer's result to this engine's layout. */
  readonly fromPeer?: (data: Float32Array) => Float32Array;
  readonly flops: number;
  /** Target speed relative to the fastest peer. */
  readonly target: number;
}

/** A workload that is ready to run on one engine. */
export interface Runner {
  /** Runs once. Resolves when the GPU is done. */
  run(): Promise<void>;
  /** The result, or the gradients in the order of `learn`; for a training step, the losses of its first steps. */
  outputs(): Promise<Float32Array[]>;
  dispose(): void;
}

/** Smallest number of timed runs of a workload on an engine. */
export const FEWEST_RUNS = 3;

export interface BenchedEngine {
  readonly name: string;
  /** How the engine waits for the end of a run. */
  readonly sync: string;
  /** Makes a workload ready. @throws Error whose message says why the engine cannot compute it. */
  prepare(workload: Workload): Promise<Runner>;
  /** @throws Error if the device has reported an error since the last call. */
  check?(): void;
}

/** Fixed random numbers, uniform in [-scale, scale). */
export function uniform(shape: readonly number[], scale: number, stream: number): Input<Float32Array> {
  const random = new Random(1, stream);
  const length = shape.reduce((a, b) => a * b, 1);
  return { shape, data: Float32Array.from({ length }, () => scale * (2 * random.uniform() - 1)) };
}

/** Default of `fromPeer`, for results that have this engine's layout. */
export const asIs = (data: Float32Array): Float32Array => data;
