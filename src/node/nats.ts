import { installed } from "../distributed/nats";
import type { Connect } from "../distributed/nats";

/** Connects to a NATS server. @throws DistributedError where NATS' client is not installed. */
export const connectNats: Connect = async (options) => {
  const servers = [options["servers"]].flat().map(String);
  if (servers.some((server) => /^wss?:/.test(server))) {
    const { wsconnect } = await installed(() => import("@nats-io/nats-core"));
    return wsconnect(options);
  }
  const { connect } = await installed(() => import("@nats-io/transport-node"));
  return connect(options);
};
