import { ConfigError } from "../base/errors";
import type { LocalSteps, World, WorldRun } from "../train/world";
import { WIRE_ENCODINGS } from "./encoding";
import type { WireEncoding } from "./encoding";
import { DistributedError } from "./errors";
import { NatsMember } from "./member";
import { loadNats } from "./nats";
import type { Connect } from "./nats";

/** Local steps, as `LocalSteps` has them. */
export interface LocalStepsOptions {
  /** Steps between two exchanges (H). */
  readonly every: number;
  /** Learning rate of the outer optimizer. Default 0.7. */
  readonly learningRate?: number;
  /** Nesterov momentum of the outer optimizer. Default 0.9. */
  readonly momentum?: number;
}

/** Where a run of several devices is, and how it is sent. */
export interface JoinOptions {
  /** Addresses of a NATS server with JetStream: `nats://HOST`, or in a page `ws://HOST:PORT` or `wss://...`. */
  readonly servers: string | readonly string[];
  /** Name of the run: letters, digits, - and _. Devices with the same name train together. */
  readonly run: string;
  /** What all devices of the run know and no others. Messages are signed with it. Default: the run's name, which keeps nobody out. */
  readonly token?: string;
  /**
   * How gradients are sent: "f32" as they are, "bf16" in half the bytes, "int8" in a quarter, with what is left out added to the next
   * step's. All devices need the same one. Default "f32".
   */
  readonly encoding?: WireEncoding;
  /**
   * Lets devices exchange what they have learnt only now and then (DiLoCo), for slow links. All devices need the same. Default: they
   * exchange gradients in every step.
   */
  readonly localSteps?: LocalStepsOptions;
  /** Number of devices that the first step waits for. Later ones may join at any time. Default 1. */
  readonly devices?: number;
  /** Seconds after which a device that does not give its part is left out; after half of them without a sign of life. Default 20. */
  readonly deadline?: number;
  /** Bytes of the server's memory for the last steps' messages. Default 256 MiB. */
  readonly logBytes?: number;
  /** Further options of NATS' client: credentials, TLS. */
  readonly connection?: Readonly<Record<string, unknown>>;
}

/**
 * A run of several devices, for a trainer's option `distributed`.
 * @param connect opens a connection to the server.
 * @throws ConfigError for options that make no sense.
 */
export function joinBy(connect: Connect, options: JoinOptions): World {
  const {
    servers,
    run: name,
    token = name,
    encoding = "f32",
    devices = 1,
    deadline = 20,
    logBytes = 1 << 28,
  } = options;
  if (!/^[\w-]{1,64}$/.test(name)) {
    throw new ConfigError(
      `${JSON.stringify(name.slice(0, 100))} is not a name of a run.`,
      "Give letters, digits, - and _, at most 64 of them.",
    );
  }
  if (!WIRE_ENCODINGS.includes(encoding)) {
    throw new ConfigError(`encoding is ${JSON.stringify(encoding)}.`, `Give one of ${WIRE_ENCODINGS.join(", ")}.`);
  }
  for (const [option, value] of Object.entries({ devices, deadline, logBytes })) {
    if (!(value > 0)) throw new ConfigError(`${option} is ${value}.`, "Give a positive number.");
  }
  const localSteps = options.localSteps && checkedLocalSteps(options.localSteps);
  return {
    localSteps,
    async enter(run: WorldRun) {
      const nats = await loadNats();
      const connection = await opened(connect, { ...options.connection, servers, name: `safetape ${name}` });
      const identity: Record<string, string> = { ...run.identity, "wire.encoding": encoding };
      for (const [key, value] of Object.entries(localSteps ?? {})) identity[`localSteps.${key}`] = String(value);
      const isLocal = localSteps !== undefined;
      const member = { name, token, encoding, devices, deadline: 1000 * deadline, logBytes, isLocal };
      return NatsMember.enter(connection, nats, member, { ...run, identity });
    },
  };
}

/** The published values (Douillard et al. 2023, table 5) where none are given. */
function checkedLocalSteps({ every, learningRate = 0.7, momentum = 0.9 }: LocalStepsOptions): LocalSteps {
  if (!Number.isInteger(every) || every < 1) {
    throw new ConfigError(`localSteps.every is ${every}.`, "Give a whole number from 1.");
  }
  if (!(learningRate > 0) || !(momentum >= 0 && momentum < 1)) {
    throw new ConfigError(
      `localSteps has the learning rate ${learningRate} and the momentum ${momentum}.`,
      "Give a positive rate, and a momentum from 0 and below 1.",
    );
  }
  return { every, learningRate, momentum };
}

async function opened(connect: Connect, options: Readonly<Record<string, unknown>>) {
  try {
    return await connect(options);
  } catch (cause) {
    if (cause instanceof DistributedError) throw cause;
    throw new DistributedError(
      `The NATS server ${String(options["servers"])} does not let this device in: ${cause instanceof Error ? cause.message : String(cause)}`,
      "Check that nats-server runs there, its address, and the credentials.",
      { cause },
    );
  }
}
