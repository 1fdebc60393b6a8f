import { encodedBytes } from "./encoding";
import type { WireEncoding } from "./encoding";

/** Bytes of a message's head. */
export const HEAD_BYTES = 96;
/** Bytes of a result's plan for the next round: one head and each device. */
export const PLAN_BYTES = 8;
export const PLACE_BYTES = 12;

/** Most payload bytes of a message, where the server's own limit is not lower (NATS: 1 MiB by default). */
export const CHUNK_BYTES = 1 << 19;

/** What a round sends, as `WorldPart` has it. */
export interface RoundSize {
  readonly exact: number;
  readonly values: number;
  readonly record?: number;
}

export interface WireOptions {
  readonly encoding: WireEncoding;
  /** Default `CHUNK_BYTES`. */
  readonly chunk?: number;
}

export interface StepWireOptions extends WireOptions {
  /** Steps between two exchanges. Left out: gradients are exchanged in every step. */
  readonly localSteps?: number | undefined;
}

/** Bytes of a device's part of a round, in as many messages as it takes. */
export function partBytes({ exact, values, record = 0 }: RoundSize, { encoding, chunk }: WireOptions): number {
  return withHeads(4 * exact + encodedBytes(values, encoding) + record, chunk);
}

/** Bytes of a round's result, in as many messages as it takes. @param devices number of devices that share the next round. */
export function resultBytes(
  { exact, values, record = 0 }: RoundSize,
  devices: number,
  { encoding, chunk }: WireOptions,
): number {
  const plan = PLAN_BYTES + devices * PLACE_BYTES;
  return withHeads(4 * exact + encodedBytes(values, encoding) + plan + record, chunk);
}

const withHeads = (bytes: number, chunk = CHUNK_BYTES): number =>
  bytes + HEAD_BYTES * Math.max(1, Math.ceil(bytes / chunk));

/** Payload bytes of a step of several devices. */
export interface StepWireBytes {
  /** What each device but the leader sends: its gradients. */
  readonly part: number;
  /** What the leader sends to all others: the sum. */
  readonly result: number;
  /** What crosses the network, where each device has a link of its own to the server: parts to the leader, results from it. */
  readonly all: number;
}

/**
 * Predicts the payload bytes of a step, with local steps as the mean over those of an exchange.
 * @param live number of elements of the tensors that learn.
 * @param devices number of devices.
 */
export function stepWireBytes(live: number, devices: number, options: StepWireOptions): StepWireBytes {
  const { localSteps } = options;
  const size = { exact: 1, values: live };
  // Before local steps, the leader tells all their shares.
  const shares = localSteps === undefined ? 0 : resultBytes({ exact: 0, values: 0 }, devices, options);
  const part = partBytes(size, options) / (localSteps ?? 1);
  const result = (resultBytes(size, devices, options) + shares) / (localSteps ?? 1);
  return { part, result, all: (devices - 1) * (part + result) };
}
