// One run on several devices, in Node: messages go over TCP, or over WebSocket to addresses that begin with ws.
import { joinBy } from "../../distributed/join";
import type { JoinOptions } from "../../distributed/join";
import { openPathsBy } from "../../io/directory-like";
import type { World } from "../../train/world";
import { openDirectory } from "../directory";
import { connectNats } from "../nats";

export { stepWireBytes } from "../../distributed/bytes";
export type { StepWireBytes, StepWireOptions, WireOptions } from "../../distributed/bytes";
export { WIRE_ENCODINGS } from "../../distributed/encoding";
export type { WireEncoding } from "../../distributed/encoding";
export { DistributedError } from "../../distributed/errors";
export type { JoinOptions, LocalStepsOptions } from "../../distributed/join";
export type * from "../../train/world";

/**
 * A run in which several devices take part, for a trainer's option `distributed`: they share the rows of each step, and have the same
 * tensors after it. `Trainer.create` enters it, or begins it where it is the first.
 * @throws ConfigError for options that make no sense; `Trainer.create` throws DistributedError where the server or the run does not
 * let this device in.
 */
export function join(options: JoinOptions): World {
  return joinBy(connectNats, options);
}

openPathsBy(openDirectory);
