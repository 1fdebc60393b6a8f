// One run on several devices, in pages: messages go over WebSocket.
import { wsconnect } from "@nats-io/nats-core";
import { joinBy } from "../distributed/join";
import type { JoinOptions } from "../distributed/join";
import type { World } from "../train/world";

export { stepWireBytes } from "../distributed/bytes";
export type { StepWireBytes, StepWireOptions, WireOptions } from "../distributed/bytes";
export { WIRE_ENCODINGS } from "../distributed/encoding";
export type { WireEncoding } from "../distributed/encoding";
export { DistributedError } from "../distributed/errors";
export type { JoinOptions, LocalStepsOptions } from "../distributed/join";
export type * from "../train/world";

/**
 * A run in which several devices take part, for a trainer's option `distributed`: they share the rows of each step, and have the same
 * tensors after it. `Trainer.create` enters it, or begins it where it is the first.
 * @throws ConfigError for options that make no sense; `Trainer.create` throws DistributedError where the server or the run does not
 * let this device in.
 */
export function join(options: JoinOptions): World {
  return joinBy((connection) => wsconnect(connection), options);
}
