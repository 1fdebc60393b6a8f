import { KernelError } from "../../base/errors";
import type { Launch } from "../../op/launch";
import type { Device } from "../device";
import { chosenLaunch } from "../variants";
import { nameOf } from "./candidates";
import type { Candidate } from "./candidates";
import { Scratch } from "./scratch";
import type { BoundLaunch } from "./scratch";

/** Seconds by candidates' names; Infinity for one that the driver cannot compile. */
export type Timings = ReadonlyMap<string, number>;

export interface TimingOptions {
  /** When to stop, by `performance.now()`. */
  readonly until: number;
}

/** Rounds in which every candidate runs once: the minimum of a few is close to what the device can do. */
const ROUNDS = 3;
/** A candidate that took this many times as long as the best one is not run again. The usual one always is. */
const HOPELESS = 3;
/** A measurement repeats a launch for this long, so that the cost of a submit does not matter. */
const MEASUREMENT_SECONDS = 4e-3;
const MAX_REPEATS = 32;
/** Pipelines that are compiled at the same time: drivers use several cores, and the time is checked in between. */
const COMPILED_TOGETHER = 4;

/** A candidate that is ready to run. */
interface ReadyCandidate {
  readonly name: string;
  /** Seconds of one of `repeats` runs in a row. */
  readonly run: (repeats: number) => Promise<number>;
  /** Seconds of its second run. */
  readonly estimate: number;
}

/**
 * Times a launch's candidates in turns on scratch buffers, in their order, until the time is up. The first one is always
 * timed; those that were not reached are missing from the result.
 */
export async function timeCandidates(
  device: Device,
  bound: BoundLaunch,
  candidates: readonly Candidate[],
  { until }: TimingOptions,
): Promise<Timings> {
  const scratch = await device.pool.checked(
    "the buffers of a tuning",
    () => new Scratch(device, bound.bindings, [bound.launch]),
  );
  try {
    scratch.write();
    const seconds = new Map<string, number>();
    const isOver = (): boolean => performance.now() > until;
    const ready = await prepareAll(device, scratch, bound, candidates, { seconds, isOver });
    for (let round = 0; round < ROUNDS && (round === 0 || !isOver()); round++) {
      for (const [i, { name, run, estimate }] of ready.entries()) {
        const best = Math.min(...seconds.values(), ...ready.map((candidate) => candidate.estimate));
        const least = Math.min(estimate, seconds.get(name) ?? Infinity);
        if (i > 0 && least > HOPELESS * best) seconds.set(name, least);
        else seconds.set(name, Math.min(await run(repeatsFor(least)), seconds.get(name) ?? Infinity));
      }
    }
    return seconds;
  } finally {
    scratch.dispose();
  }
}

const repeatsFor = (seconds: number): number =>
  Math.max(1, Math.min(MAX_REPEATS, Math.round(MEASUREMENT_SECONDS / Math.max(seconds, 1e-9))));

/** Compiles candidates and runs each twice. Those that do not compile get Infinity in `seconds`. */
async function prepareAll(
  device: Device,
  scratch: Scratch,
  { launch, bindings }: BoundLaunch,
  candidates: readonly Candidate[],
  { seconds, isOver }: { readonly seconds: Map<string, number>; readonly isOver: () => boolean },
): Promise<ReadyCandidate[]> {
  const ready: ReadyCandidate[] = [];
  for (let first = 0; first < candidates.length; first += COMPILED_TOGETHER) {
    if (first > 0 && isOver()) break;
    const group = candidates.slice(first, first + COMPILED_TOGETHER).map((candidate) => {
      return { name: nameOf(candidate), variant: chosenLaunch(launch, () => candidate) };
    });
    const pipelines = await Promise.all(group.map(({ variant }) => pipelineOf(device, variant)));
    for (const [i, { name, variant }] of group.entries()) {
      if (ready.length > 0 && isOver()) return ready;
      const pipeline = pipelines[i];
      if (pipeline) ready.push(await prepare(name, runner(device, scratch, { launch: variant, bindings }, pipeline)));
      else seconds.set(name, Infinity);
    }
  }
  return ready;
}

/** The first run may compile or clear memory, so the second one is the estimate. */
async function prepare(name: string, run: ReadyCandidate["run"]): Promise<ReadyCandidate> {
  await run(1);
  return { name, run, estimate: await run(1) };
}

/** Undefined where the kernel does not compile. If it is the usual one, running the plan reports the error. */
async function pipelineOf(device: Device, launch: Launch): Promise<GPUComputePipeline | undefined> {
  try {
    return await device.pipelines.get(launch);
  } catch (error) {
    if (error instanceof KernelError) return undefined;
    throw error;
  }
}

/** Measures a launch by the host's clock, since GPU timestamps are missing or coarse on many adapters. */
function runner(
  { handle }: Device,
  scratch: Scratch,
  bound: BoundLaunch,
  pipeline: GPUComputePipeline,
): ReadyCandidate["run"] {
  return async (repeats) => {
    const encoder = handle.createCommandEncoder();
    const pass = encoder.beginComputePass();
    scratch.encode(pass, bound, pipeline, repeats);
    pass.end();
    const commands = encoder.finish();
    const start = performance.now();
    handle.queue.submit([commands]);
    await handle.queue.onSubmittedWorkDone();
    return (performance.now() - start) / 1000 / repeats;
  };
}
