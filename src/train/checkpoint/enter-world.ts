import { ConfigError } from "../../base/errors";
import { sha256, sha256Hex } from "../../base/sha256";
import { readBuffer } from "../../gpu/readback";
import { memoryDirectory } from "../../io/directory";
import type { LoadedModel } from "../../io/load-model";
import { withScheduledRate } from "../loop/learning-rate";
import { openRun } from "../loop/resources";
import type { RunOrigin, RunResources, RunStart } from "../loop/resources";
import { warnBy } from "../loop/warnings";
import type { TrainerOptions } from "../options";
import { positionIn } from "../step/batch-queue";
import { OuterOptimizer } from "../step/outer-optimizer";
import { limitBook } from "../step/rows-of-share";
import { trainableSpecs } from "../tensors/specs";
import type { World } from "../world";
import { readCheckpoint, writeCheckpoint } from "./file";
import { runIdentity } from "./identity";
import type { RunIdentity } from "./identity";
import { gpuName } from "./record";
import type { RunCheckpoint } from "./record";

type SharedOptions = TrainerOptions & { readonly distributed: World };

/** What each device of a run may have as it likes: how it keeps to its own memory. */
const OF_ONE_DEVICE = ["microBatch", "recompute", "memoryBudget"];

/** Bytes of a weight that are on the host at the same time. */
const WINDOW_BYTES = 1 << 24;

/**
 * Enters a run of several devices, and opens it here.
 * @param origin the checkpoint that the run continues from, where this device begins it.
 * @throws ConfigError for options that such runs do not have, and where the run of this name is another one; as `openRun`.
 */
export async function openShared(options: SharedOptions, origin: RunOrigin | undefined): Promise<RunResources> {
  const start = await enterWorld(options, origin);
  try {
    return await openRun(options, origin, start);
  } catch (error) {
    await start.world?.leave();
    throw error;
  }
}

async function enterWorld(given: SharedOptions, origin: RunOrigin | undefined): Promise<RunStart> {
  checkOptions(given);
  const { localSteps } = given.distributed;
  const options = withScheduledRate(given);
  const { data, model } = options;
  const start = origin?.start ?? positionIn(data);
  if (origin && start.state !== undefined) data.resume?.(start.state);
  const first = data.next();
  const run = { options: { ...options, probe: options.probe ?? first }, first, start };
  await origin?.check(run);
  const own = Object.entries(await runIdentity(run)).filter(([name]) => !OF_ONE_DEVICE.includes(name));
  const identity: RunIdentity = { ...Object.fromEntries(own), "model.bits": await weightsDigest(options) };
  const world = await given.distributed.enter({ identity, gpu: gpuName({ model }), warn: warnBy(options) });
  return {
    first,
    start,
    world,
    local: localSteps && new OuterOptimizer(localSteps),
    limit: (book) => {
      world.setRowsAtOnce(book.choice.rows);
      if (world.share) limitBook(book, world.share, options);
    },
  };
}

/** @throws ConfigError */
function checkOptions({ policy, prefixCache, adapter, distributed }: SharedOptions): void {
  if (distributed.localSteps && adapter.start) {
    throw new ConfigError(
      `${adapter.kind} changes its tensors by what one device has seen between two exchanges.`,
      "Use another adapter, or leave localSteps out (--world-local-steps).",
    );
  }
  if (policy?.kind === "weight_pruning" || policy?.kind === "structure_pruning") {
    throw new ConfigError(
      `${policy.name} prunes by gradients that one device computes alone.`,
      "Use a policy that freezes, or leave `distributed` out.",
    );
  }
  if (!prefixCache) return;
  throw new ConfigError(
    "A cached prefix belongs to complete batches, of which each device has some rows.",
    "Leave prefixCache out, or `distributed`.",
  );
}

/** Digest of all weights as they are stored, but those that learn. */
async function weightsDigest({ model: loaded, adapter }: Pick<TrainerOptions, "model" | "adapter">): Promise<string> {
  const trained = adapter.trainsInPlace ? trainableSpecs(loaded.model, adapter) : new Map<string, unknown>();
  const digests: string[] = [];
  for (const { name } of loaded.model.parameters) {
    if (!trained.has(name)) digests.push(`${name} ${await weightDigest(loaded, name)}`);
  }
  return (await sha256Hex(new TextEncoder().encode(digests.join("\n")))).slice(0, 32);
}

async function weightDigest({ engine: { device }, weights }: LoadedModel, name: string): Promise<string> {
  const { lease } = weights.get(name)!;
  const windows = Array.from({ length: Math.ceil(lease.bytes / WINDOW_BYTES) }, (_, i) => ({
    offset: i * WINDOW_BYTES,
    bytes: Math.min(WINDOW_BYTES, lease.bytes - i * WINDOW_BYTES),
  }));
  const digests = new Uint8Array(32 * windows.length);
  for (const [i, window] of windows.entries()) {
    const bytes = await device.wait(readBuffer(device, lease, [window]));
    digests.set(await sha256(new Uint8Array(bytes)), 32 * i);
  }
  return sha256Hex(digests);
}

const FILE = "state.safetensors";
const NAME = "the state of the run";

/** A checkpoint as the bytes of its file. */
export async function checkpointBytes(checkpoint: RunCheckpoint): Promise<Uint8Array> {
  const directory = memoryDirectory(NAME);
  await writeCheckpoint(directory, FILE, checkpoint);
  return directory.read(FILE);
}

/** A checkpoint from the bytes of its file. @throws FileFormatError for any others. */
export async function checkpointOf(bytes: Uint8Array): Promise<RunCheckpoint> {
  return readCheckpoint(memoryDirectory(NAME, { [FILE]: bytes }), FILE);
}
