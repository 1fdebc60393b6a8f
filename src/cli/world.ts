import { readFile } from "node:fs/promises";
import { installed } from "../distributed/nats";
import type { World } from "../train/world";
import type { TRAIN } from "./flags";
import { WORLD } from "./flags";
import { flagOf, UsageError } from "./options";
import type { Values } from "./options";

/** Where the token may be, so that it is in no list of processes. */
const TOKEN = "SAFETAPE_RANK_TOKEN";

type WorldOptions = Values<typeof WORLD> & Pick<Values<typeof TRAIN>, "lrSearch">;

/** The run of several devices that options ask for; undefined for one device. @throws UsageError for options that do not fit. */
export async function worldFrom(options: WorldOptions): Promise<World | undefined> {
  const { world, run, rankToken, worldCreds, worldSize, wire, worldDeadline, lrSearch } = options;
  const { worldLocalSteps: every, worldOuterLr, worldOuterMomentum } = options;
  if (world === undefined) {
    const lone = (["run", "rankToken", "worldCreds", "worldLocalSteps"] as const).find(
      (name) => options[name] !== undefined,
    );
    if (!lone) return undefined;
    throw new UsageError(`${flagOf(WORLD[lone])} has no --world.`, "Give the NATS server's address, or leave it out.");
  }
  if (run === undefined) {
    throw new UsageError("--world has no --run.", "Give the run a name; devices of one name train together.");
  }
  if (lrSearch !== undefined) {
    throw new UsageError("--lr-search tries rates on one device.", "Find the rate first, then give --lr with --world.");
  }
  const { join } = await import("../node/entry/distributed");
  const token = rankToken ?? process.env[TOKEN];
  return join({
    servers: world.split(","),
    run,
    encoding: wire,
    devices: worldSize,
    deadline: worldDeadline,
    ...(every !== undefined && { localSteps: { every, learningRate: worldOuterLr, momentum: worldOuterMomentum } }),
    ...(token !== undefined && { token }),
    connection: {
      ...(world.startsWith("tls://") && { tls: {} }),
      ...(worldCreds !== undefined && { authenticator: await authenticatorOf(worldCreds) }),
    },
  });
}

/** Makes what answers a NATS server's request to log in, from a credentials file (.creds). */
export async function authenticatorOf(path: string): Promise<unknown> {
  const { credsAuthenticator } = await installed(() => import("@nats-io/nats-core"));
  return credsAuthenticator(await readFile(path));
}

/** Options without what must not be saved. */
export function withoutToken<T extends object>(options: T): T {
  // The rest of T is T, since no T here has to have the token.
  const { rankToken: _, ...others } = options as T & { readonly rankToken?: unknown };
  // As above.
  return others as unknown as T;
}

/** A command without the token. */
export function argumentsWithoutToken(args: readonly string[]): string[] {
  const flag = flagOf(WORLD.rankToken);
  return args.filter((arg, i) => !arg.startsWith(flag) && args[i - 1] !== flag);
}
