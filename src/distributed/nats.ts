import type * as JetStream from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/nats-core";
import type * as ObjectStore from "@nats-io/obj";
import { DistributedError } from "./errors";

/** How a connection to a NATS server is opened: over TCP in Node, over WebSocket in a page. */
export type Connect = (options: Readonly<Record<string, unknown>>) => Promise<NatsConnection>;

/** The parts of NATS' client that a run uses. */
export interface Nats {
  readonly jetstream: typeof JetStream;
  readonly obj: typeof ObjectStore;
}

/** @throws DistributedError where the packages are not installed. */
export async function loadNats(): Promise<Nats> {
  const [jetstream, obj] = await installed(() => Promise.all([import("@nats-io/jetstream"), import("@nats-io/obj")]));
  return { jetstream: exportsOf(jetstream), obj: exportsOf(obj) };
}

/** What a CommonJS package exports, which bundles that esbuild splits have as the default export alone. */
function exportsOf<T extends object>(module: T): T {
  // Its type says nothing of a default.
  const { default: exported } = module as { readonly default?: T };
  return exported ?? module;
}

/** What `load` imports. @throws DistributedError where the packages are not installed. */
export async function installed<T>(load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (cause) {
    throw new DistributedError(
      "The npm packages of NATS' client cannot be loaded.",
      "Run: npm install @nats-io/transport-node @nats-io/jetstream @nats-io/obj",
      { cause },
    );
  }
}
